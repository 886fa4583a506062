"""What the engine needs of a batch and of a loader, and the way of a batch to the device."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor


class TrainingBatch(Protocol):
    """What the engine needs of a batch of N rows. What else is in it is between its loader and what is trained."""

    @property
    def labels(self) -> Tensor:
        """int64 `(N,)`, on the host (see `Targets`)."""

    @property
    def indices(self) -> Tensor:
        """int64 `(N,)`, on the host (see `Targets`)."""

    def to(self, device: torch.device) -> Any:
        """What is trained on: of views uint8 `(N, S, S, C)` each. The copy may still be under way."""

    def hold(self, event: Any) -> None:
        """Let buffers be used again once `event` is reached."""


class TrainingLoader(Protocol):
    """What the engine needs of a loader."""

    def epoch(self, epoch: int, *, start_batch: int = 0) -> Generator[Any, None, None]: ...

    def shares(self, batch: int) -> Sequence[int]:
        """How many rows of a batch, counted from 0 in any epoch, each rank has, in the order of ranks.

        From the plan, without asking them. Called over several ranks only.
        """


def to_device(batch: TrainingBatch, device: torch.device) -> Any:
    """What is trained on, on the device. The loader uses its buffers again only after the copy completed."""
    inputs = batch.to(device)
    if device.type == "cuda":
        copied = torch.cuda.Event()
        copied.record(torch.cuda.current_stream(device))
        batch.hold(copied)
    return inputs
