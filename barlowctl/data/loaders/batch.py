"""A batch of views, whose buffers its loader uses again."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import torch


class CopyEvent(Protocol):
    """What `ViewBatch.hold` takes: torch.cuda.Event, or anything to wait for."""

    def synchronize(self) -> None:
        """Return when the work that reads the buffer is done."""


@dataclass(frozen=True)
class ViewBatch:
    """One rank's share of a batch.

    Attributes:
        views: one per view, uint8 (N, S, S, C). They alias a ring of buffers and are valid until the next
            batch is asked for; clone them to keep them, or `hold` them until a copy has finished.
        labels: int64 (N,), -1 where unlabelled.
        indices: int64 (N,), positions in the source.
        keys: int64 (N,), whose random numbers were used: `indices`, except where one stands in for an unreadable one.
    """

    views: tuple[torch.Tensor, ...]
    labels: torch.Tensor
    indices: torch.Tensor
    keys: torch.Tensor
    _pixels: torch.Tensor | None = field(default=None, repr=False, compare=False)  # all views, one after another
    _held_by: list[CopyEvent] = field(default_factory=list, repr=False, compare=False)

    def hold(self, event: CopyEvent) -> None:
        """Let the buffers be overwritten only after `event.synchronize()` has returned."""
        self._held_by.append(event)

    def readable(self) -> ViewBatch:
        """Without the samples that could not be read, whose index is -1; a copy where there are any."""
        readable = self.indices >= 0
        if bool(readable.all()):
            return self
        views = tuple(view[readable] for view in self.views)
        return ViewBatch(
            views=views, labels=self.labels[readable], indices=self.indices[readable], keys=self.keys[readable]
        )

    def to(self, device: torch.device) -> tuple[torch.Tensor, ...]:
        """The views on a device, in one copy where they lie together; it may still be under way (see `hold`)."""
        if self._pixels is None:
            return tuple(view.to(device, non_blocking=True) for view in self.views)
        pixels = self._pixels.to(device, non_blocking=True)
        begins = [view.storage_offset() for view in self.views]
        return tuple(
            pixels.as_strided(view.shape, view.stride(), at) for view, at in zip(self.views, begins, strict=True)
        )
