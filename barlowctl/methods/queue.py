"""A queue of embeddings: MoCo's negatives, which are keys of earlier steps."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from barlowctl.errors import UserError


class Queue(nn.Module):
    """The newest `size` rows that were put in, from random ones on; part of a method's state.

    It begins with draws from torch's current generator at unit length, which are the same on every rank once the method
    was copied from rank 0. It stays so where every rank puts in the same rows, those of the global batch.

    Args:
        size: rows that it holds. width: of a row.
        batch: rows that are put in at a time, which `size` is a multiple of: it fills up and begins anew as a whole.

    Raises:
        UserError: a size that is not a multiple of the batch.
    """

    rows: Tensor
    pointer: Tensor

    def __init__(self, size: int, width: int, *, batch: int) -> None:
        super().__init__()
        if batch < 1 or size < batch or size % batch:
            raise UserError(
                f"a queue of {size} entries does not hold a whole number of batches of {batch} keys",
                allowed=f"a multiple of {batch}",
                next=f"--set objective.queue={max(round(size / max(batch, 1)), 1) * batch}",
            )
        self.batch = batch
        self.register_buffer("rows", nn.functional.normalize(torch.randn(size, width), dim=1))
        self.register_buffer("pointer", torch.zeros((), dtype=torch.int64))

    def check(self, count: int) -> None:
        """Refuse another number of rows than `put` takes, as the last batch of an epoch may have.

        Raises:
            UserError: with both.
        """
        if count != self.batch:
            raise UserError(
                f"{count} keys are to be put into a queue that takes {self.batch} at a time",
                next="--set data.drop_last=true",
            )

    @torch.no_grad()
    def put(self, rows: Tensor) -> None:
        """Replace the oldest rows by `(batch, width)` new ones, at unit length: in place, and nothing is read.

        Raises:
            UserError: see `check`.
        """
        self.check(len(rows))
        where = torch.arange(self.batch, device=self.rows.device) + self.pointer
        self.rows.index_copy_(0, where, rows.to(self.rows.dtype))
        self.pointer.add_(self.batch).remainder_(len(self.rows))
