"""What the engine needs of a batch and of a loader, and the way of a batch to the device."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor


class TrainingBatch(Protocol):
    """What the engine needs of a batch: views `(N, S, S, C)` uint8, reusable once `event` is reached.

    labels, indices: int64 `(N,)`, on the host (see `Targets`).
    """

    views: Sequence[Tensor]
    labels: Tensor
    indices: Tensor

    def to(self, device: torch.device) -> Sequence[Tensor]: ...

    def hold(self, event: Any) -> None: ...


class TrainingLoader(Protocol):
    """What the engine needs of a loader."""

    def epoch(self, epoch: int, *, start_batch: int = 0) -> Generator[Any, None, None]: ...


def to_device(batch: TrainingBatch, device: torch.device) -> Sequence[Tensor]:
    """A batch's views on the device, in one copy. The loader reuses its buffers only after the copy completed."""
    if device.type != "cuda":
        return list(batch.views)
    views: Sequence[Tensor] = batch.to(device)
    copied = torch.cuda.Event()
    copied.record(torch.cuda.current_stream(device))
    batch.hold(copied)
    return views
