"""A queue of embeddings: MoCo's negatives, which are keys of earlier steps."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from barlowctl.errors import UserError
from barlowctl.methods.moved_rows import MovedRows

USUAL, LARGE = 65536, 2**20
"""Entries of the authors' queue, and those from which on it is advised instead of one that memory may not hold."""


class Queue(nn.Module):
    """The newest `size` rows that were put in, from random ones on; part of a method's state.

    It begins with draws from torch's current generator at unit length, which are the same on every rank once the method
    was copied from rank 0. It stays so where every rank puts in the same rows, those of the global batch.

    Args:
        size: rows that it holds. width: of a row.
        batch: rows that a training puts in at a time, which `size` is a multiple of, as the authors' code asserts: it
            fills up and begins anew as a whole.

    Raises:
        UserError: a size that is not a multiple of the batch.
    """

    rows: Tensor
    pointer: Tensor

    def __init__(self, size: int, width: int, *, batch: int) -> None:
        super().__init__()
        if batch < 1 or size < batch or size % batch:
            near = size if size < LARGE else USUAL
            raise UserError(
                f"a queue of {size:,} entries does not hold a whole number of batches of {batch:,} keys",
                allowed=f"a multiple of {batch:,}",
                next=f"--set objective.queue={max(near // max(batch, 1), 1) * batch}",
            )
        self.register_buffer("rows", nn.functional.normalize(torch.randn(size, width), dim=1))
        self.register_buffer("pointer", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def put(self, rows: Tensor) -> MovedRows:
        """Replace the oldest rows by new ones `(n, width)`, at unit length: in place, and nothing is read.

        Those that do not fit before the end begin anew at the start, so that a step on fewer images loses none.
        """
        if len(rows) > len(self.rows):
            raise ValueError(f"{len(rows)} rows do not fit into a queue of {len(self.rows)}")
        where = torch.arange(len(rows), device=self.rows.device).add_(self.pointer).remainder_(len(self.rows))
        moved = MovedRows.move(self.rows, where, rows.to(self.rows.dtype))
        self.pointer.add_(len(rows)).remainder_(len(self.rows))
        return moved
