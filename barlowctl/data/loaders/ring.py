"""The ring of buffers that batches are made in, and the epoch in flight that fills them."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np
import torch

from barlowctl.data.loaders.batch import CopyEvent
from barlowctl.data.views.spec import Spec


class Slot:
    """One batch's buffers in the ring, and what is known of its filling."""

    def __init__(self, rows: int, specs: Sequence[Spec], channels: int, pin_memory: bool) -> None:
        sides = [spec.output_size for spec in specs]
        sizes = [rows * side * side * channels for side in sides]
        self.offsets = np.concatenate([[0], np.cumsum(sizes)])[:-1].astype(np.int64)
        self.pixels = torch.empty(sum(sizes), dtype=torch.uint8, pin_memory=pin_memory)
        self.flat = self.pixels.numpy()
        self.views = tuple(
            self.pixels[offset : offset + size].view(rows, side, side, channels)
            for offset, size, side in zip(self.offsets, sizes, sides, strict=True)
        )
        self.keys = np.empty(rows, np.int64)  # whose random numbers
        self.indices = np.empty(rows, np.int64)  # whose pixels
        self.status = np.empty(rows, np.int64)
        self.held_by: list[CopyEvent] = []  # shared with the batch at the consumer
        self.waits: list[CopyEvent] = []  # before the buffers may be written
        self.pending = 0  # chunks not yet filled


class EpochInFlight:
    """One epoch in flight: which batch is in which slot, and the first error met."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        self.condition = threading.Condition()
        self.error: BaseException | None = None
        self.stopped = False
        self.in_flight = 0  # chunks queued or being filled

    def stop(self) -> None:
        """Skip what is queued and wait for what is being filled: afterwards the buffers are at rest."""
        with self.condition:
            self.stopped = True
            self.condition.wait_for(lambda: self.in_flight == 0)
