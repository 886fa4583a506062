"""What a rank takes a step on that has no batch."""

from __future__ import annotations

import pytest
import torch

from barlowctl.distributed import Ranks
from barlowctl.methods import Targets
from barlowctl.train.computed import Before, Computed
from barlowctl.train.stand_in import shared
from tests.train.test_engine import Loader

CPU = torch.device("cpu")


class Shared(Loader):
    def shares(self, batch: int) -> list[int]:
        return [4, 4] if batch < 2 else [1, 2]


@pytest.mark.parametrize(("number", "rows"), [(1, 4), (2, 2)])
def test_it_has_as_many_rows_as_the_plan_says(number: int, rows: int) -> None:
    views = [torch.arange(4 * 3).view(4, 3), -torch.arange(4 * 3).view(4, 3)]
    targets = Targets(torch.arange(4) + 10, torch.arange(4) + 20, (4, 4), torch.zeros(()))
    before = Computed(views, targets, Before([], {}))
    batch, shares = shared(None, number, Shared(), before, Ranks(1, 2))
    assert list(shares) == Shared().shares(number)
    assert batch.labels.tolist() == [10, 11, 12, 13][:rows]
    assert batch.indices.tolist() == [20, 21, 22, 23][:rows]
    assert [view.tolist() for view in batch.to(CPU)] == [view[:rows].tolist() for view in views]


def test_a_batch_that_is_there_is_taken_and_held_against_the_plan() -> None:
    given = next(Loader().epoch(0))
    assert shared(given, 0, Loader(), None, Ranks())[0] is given
    with pytest.raises(AssertionError, match="not what the loader's plan says"):
        shared(given, 2, Shared(), None, Ranks(0, 2))
