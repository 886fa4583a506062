"""What a method's keys say of memory: which are large, beside what, and what its loss takes for a while."""

from __future__ import annotations

import pytest

from barlowctl.recipe.load import load
from barlowctl.recipe.objectives import METHODS


def large(*overrides: str) -> list[tuple[str, int, int, int]]:
    recipe = load("quickstart", [*overrides, "train.batch_size=96"])
    return [tuple(entry) for entry in recipe.objective.large(96)]


def test_what_is_large_is_said_by_the_methods_that_hold_it() -> None:
    assert large("objective.name=vicreg") == []
    assert large("objective.name=swav", "objective.prototypes=7", "objective.queue=9") == [
        ("prototypes", 7, 3000, 3000),
        ("queue", 9, 3840, 0),
    ]
    patches = ["views.patches.grid=3", "views.patches.cell=10", "views.patches.window=8"]
    assert large("objective.name=pirl", "objective.negatives=1048576", *patches) == [
        ("negatives", 1048576, 32000, 32000)
    ]
    for name in ("moco", "moco-v2"):  # a whole number of batches, as a queue must have
        assert large(f"objective.name={name}", "objective.queue=192") == [("queue", 192, 65472, 65472)]


@pytest.mark.parametrize("name", METHODS)
def test_every_methods_loss_says_what_it_takes(name: str) -> None:
    """Sinkhorn's scores of two anchors: batch and queue by prototypes, float64, three of them at a time.

    PIRL's negatives are gathered from the bank: rows of 128 numbers of float32, by numbers of 64 bits.
    """
    predictor = ["model.predictor=[64]"] if name in ("byol", "simsiam") else []
    patches = ["views.patches.grid=3", "views.patches.cell=10", "views.patches.window=8"] if name == "pirl" else []
    objective = load("quickstart", [f"objective.name={name}", *predictor, *patches]).objective
    expected = {"swav": 3 * 8 * 2 * (50 + 0) * 3000, "pirl": 32000 * (128 * 4 + 8)}.get(name, 0)
    assert objective.working_bytes(50, 128) == expected
