"""Rows of a buffer that a step moves, and what they were: a step is taken back without a copy of the whole buffer."""

from __future__ import annotations

from typing import NamedTuple, Self

import torch
from torch import Tensor


class MovedRows(NamedTuple):
    """Rows of a buffer `(n, ...)`: `where`, int64 `(k,)`, and what they were before they were moved, `(k, ...)`.

    A row may be there several times; it was the same each time.
    """

    buffer: Tensor
    where: Tensor
    before: Tensor

    @classmethod
    @torch.no_grad()
    def move(cls, buffer: Tensor, where: Tensor, rows: Tensor) -> Self:
        """Replace rows of a buffer, in place and reading nothing on the host, so that a graph can capture it."""
        moved = cls(buffer, where.clone(), buffer[where])  # a loader may use its memory again
        buffer.index_copy_(0, where, rows)
        return moved

    def copied(self) -> MovedRows:
        """The same with its own numbers: those of a captured step are others after its next replay."""
        return MovedRows(self.buffer, self.where.clone(), self.before.clone())

    @torch.no_grad()
    def put_back(self) -> None:
        """Make the rows what they were, to the bit."""
        self.buffer.index_copy_(0, self.where, self.before)
