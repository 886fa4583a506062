"""Which sample is where in an epoch, for every rank."""

from __future__ import annotations

import itertools
from typing import Required, TypedDict

import numpy as np

from barlowctl.amounts import counted
from barlowctl.data.views import draws
from barlowctl.errors import UserError


class Sharing(TypedDict, total=False):
    """How an epoch is cut up, for a loader: the arguments of an `EpochPlan` except for what it is of.

    batch_size: over all ranks. seed: of order and pixels. subset: source indices to read. shuffle: False keeps their
    order (evaluation). drop_last: without the last, smaller batch. rank of world_size: whose share.
    """

    batch_size: Required[int]
    seed: Required[int]
    rank: int
    world_size: int
    drop_last: bool
    shuffle: bool
    subset: np.ndarray | None


class EpochPlan:
    """Which sample is where: the order of an epoch cut into batches, and a rank's share of each.

    Global batch b takes order[b B : (b + 1) B]; rank r of W takes its contiguous share of that, rows
    n r / W to n (r + 1) / W. In the last, smaller batch shares may differ by one sample, or be empty.

    Raises:
        UserError: an empty or out-of-range subset, or sizes that cannot be shared.
    """

    def __init__(
        self,
        count: int,
        *,
        batch_size: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        drop_last: bool = False,
        shuffle: bool = True,
        subset: np.ndarray | None = None,
        path: object = "the source",
    ) -> None:
        if not 0 <= rank < world_size:
            raise UserError(f"rank is {rank}", allowed=f"0 to {world_size - 1}")
        if batch_size < 1 or batch_size % world_size:
            raise UserError(
                f"a batch of {batch_size} images cannot be shared equally by {world_size} devices",
                allowed=f"a multiple of {world_size}",
            )
        if seed < 0:
            raise UserError(f"seed is {seed}", allowed="0 or more")
        self.members = np.arange(count) if subset is None else np.asarray(subset, dtype=np.int64).ravel()
        outside = self.members[(self.members < 0) | (self.members >= count)]
        if outside.size:
            raise UserError(f"sample {outside[0]} of {path} does not exist", allowed=f"0 to {count - 1}")
        self.batch_size, self.seed, self.shuffle = batch_size, seed, shuffle
        self.rank, self.world_size = rank, world_size
        whole, rest = divmod(len(self.members), batch_size)
        self.batches = whole + (1 if rest and not drop_last else 0)
        self.samples = min(len(self.members), self.batches * batch_size)
        if self.batches == 0:
            raise UserError(
                f"{path} has {counted(len(self.members), 'image')} to read, not one batch of {batch_size}",
                allowed="at least one batch per epoch",
            )
        self.share = batch_size // world_size  # rows of a full batch on this rank

    def order(self, epoch: int) -> np.ndarray:
        """Source indices in the epoch's order, int64."""
        if not self.shuffle:
            return self.members
        return self.members[draws.epoch_order(len(self.members), self.seed, epoch)]

    def rows(self, order: np.ndarray, batch: int) -> np.ndarray:
        """This rank's source indices of global batch `batch`."""
        rows = order[batch * self.batch_size : (batch + 1) * self.batch_size]
        low = len(rows) * self.rank // self.world_size
        high = len(rows) * (self.rank + 1) // self.world_size
        return rows[low:high]

    def shares(self, batch: int) -> list[int]:
        """How many rows of global batch `batch` each rank has, whatever the epoch."""
        rows = min(self.samples - batch * self.batch_size, self.batch_size)
        cuts = [rows * rank // self.world_size for rank in range(self.world_size + 1)]
        return [high - low for low, high in itertools.pairwise(cuts)]

    def check_start(self, epoch: int, start_batch: int) -> None:
        """Refuse a position that no epoch has."""
        if epoch < 0:
            raise UserError(f"epoch is {epoch}", allowed="0 or more")
        if not 0 <= start_batch <= self.batches:
            raise UserError(f"start_batch is {start_batch}", allowed=f"0 to {self.batches}")

    def substitute(self, epoch: int, sample: int, attempt: int) -> int:
        """The source index to read instead of an unreadable sample."""
        position = draws.substitute(self.seed, epoch, sample, attempt, len(self.members))
        return int(self.members[position])
