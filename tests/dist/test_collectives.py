"""How many collectives a step takes, and that none of them is for control: docs/scale.md."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest

from barlowctl.recipe.objectives import METHODS
from tests.dist import gang, methods

pytestmark = pytest.mark.dist


class Parts(NamedTuple):
    """What a step's collectives are for.

    norms: batch norms that a step passes, each with one forward and one backward. loss: of the loss and what is said
    beside it. keys: of a queue, a bank, or images that are shuffled. following: batch norms without a backward pass.
    """

    norms: int
    loss: int
    keys: int = 0
    following: int = 0

    @property
    def total(self) -> int:
        gradients = 1  # the networks of these tests fit in one bucket
        return 2 * self.norms + self.following + self.loss + self.keys + gradients


EXPECTED = {
    # Two batch norms, two views. Statistics of both views, two gathers or C, the terms; statistics backward.
    "barlow-twins, gram": Parts(4, 2 + 2 + 1 + 2),
    "barlow-twins, primal": Parts(4, 2 + 1 + 2),
    "barlow-twins, adapted": Parts(2, 2 + 1 + 2),  # the backbone's batch norm is frozen; primal at that size
    "barlow-twins, gathered": Parts(4, 2),
    "supervised": Parts(1, 1),
    "simclr": Parts(3, 3 + 1),  # both views at once; the pairs, the mean, the log-sums; the spread
    "moco": Parts(0, 1 + 1, 3 + 1),  # batch norm of each rank; the mean; an order and images there and back; the keys
    "moco, symmetric": Parts(0, 2 + 2, 6 + 2),
    "vicreg": Parts(4, 7),
    "mixed-barlow-twins": Parts(6, 8),  # the mixed images too
    "multi-crop": Parts(8, 13),  # two views and two small ones
    "pirl": Parts(2, 4, 2),
    "pirl, cross-entropy": Parts(2, 4, 2),
    "byol": Parts(6, 1 + 1, following=4),
    "byol, adapted": Parts(4, 1 + 1, following=2),
    "simsiam": Parts(8, 1 + 1),
    # A pass for each size of views; the codes' peaks and three iterations, the means, the spread.
    "swav": Parts(3, 1 + 3 + 2 + 1, 2),
}
AROUND_AN_EPOCH = 5
"""Two for its checkpoint; and ranks ask one another three times whether one of them ends."""


def test_a_step_takes_as_many_collectives_as_the_page_says(tmp_path: Path) -> None:
    counts = gang.together(methods.collectives_of_each, 2, str(tmp_path))[0]
    assert {name.partition(",")[0] for name in counts} == set(METHODS) - {"moco-v2"} | {"multi-crop"}
    for name, of_step in counts.items():
        once = EXPECTED[name].total
        assert set(of_step) <= {once, once + AROUND_AN_EPOCH}, (name, of_step)
        epochs = {5: 1, 9: 1, 2: 0}[len(of_step)]  # that end between these steps
        assert of_step.count(once + AROUND_AN_EPOCH) == epochs, (name, of_step)
