"""What a rank takes a step on that has no batch, because it is about to say that it ends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from barlowctl.distributed import Ranks
from barlowctl.train.batch import TrainingBatch, TrainingLoader
from barlowctl.train.computed import Computed


@dataclass(frozen=True)
class StandIn:
    """Rows of an earlier batch of the epoch, on the device: a `TrainingBatch`.

    The other ranks are in the middle of the step, and need an answer to every sum before they hear that it ends; what
    is computed counts nowhere.

    Attributes:
        computed: the step that was taken on that batch. rows: how many are needed, no more than there.
    """

    computed: Computed
    rows: int

    @property
    def labels(self) -> Tensor:
        return self.computed.targets.labels[: self.rows]

    @property
    def indices(self) -> Tensor:
        return self.computed.targets.indices[: self.rows]

    def to(self, device: torch.device) -> Any:
        """As many rows of each view; what is no list of views has equally many in every batch, and is there whole."""
        if self.rows == len(self.computed.targets.indices):
            return self.computed.inputs
        return [view[: self.rows] for view in self.computed.inputs]

    def hold(self, event: Any) -> None:
        """Nothing is used again."""


def shared(
    batch: TrainingBatch | None, number: int, loader: TrainingLoader, current: Computed | None, ranks: Ranks
) -> tuple[TrainingBatch, Sequence[int]]:
    """What this rank takes a step on, and how many rows each rank has in that batch of the epoch, counted from 0.

    Args:
        batch: None: it has none, and takes what `current`, the step before, was taken on.
    """
    if ranks.size == 1:
        assert batch is not None
        return batch, [len(batch.indices)]
    shares = loader.shares(number)
    if batch is None:
        assert current is not None, "before the first batch of an epoch ranks hear of one another"
        batch = StandIn(current, shares[ranks.rank])
    assert len(batch.indices) == shares[ranks.rank], "a batch is not what the loader's plan says"
    return batch, shares
