"""Every compared method on several processes with distinct shards against one process."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from barlowctl.recipe.objectives import METHODS
from tests.dist import gang, methods, moved, work
from tests.dist.test_ranks import distance
from tests.methods import siamese_networks, test_moved_rows

pytestmark = pytest.mark.dist

SIZES = (2, 4)


@pytest.mark.parametrize("size", SIZES)
def test_ten_steps_of_every_method_are_those_of_one_process(tmp_path: Path, size: int) -> None:
    """Losses, weights after every step, momentum encoder and queue, which is the same on every rank.

    MoCo's batch norm sees four parts of the batch on any number of ranks, and its keys are shuffled between them.
    """
    expected = work.alone(methods.train_each, methods.TRAINED, str(tmp_path / "alone"))
    by_rank = gang.together(methods.train_each, size, methods.TRAINED, str(tmp_path / "together"))
    for name in methods.MAKERS:
        alone, ranks = expected[name], [rank[name] for rank in by_rank]
        assert len(alone["loss"]) == 10
        for key in alone:
            if "running" in key:  # where batch norm is local, one process keeps the mean of what ranks have
                ranked: list[Any] = [np.mean([rank[key] for rank in ranks], axis=0)]
            else:
                ranked = [rank[key] for rank in ranks]
            for values in ranked:
                assert distance(values, alone[key]) <= 1e-9, (name, key)
        assert np.abs(alone["path"][-1] - alone["path"][0]).max() > 1e-2  # something was trained


def test_every_method_of_a_recipe_is_trained_over_ranks() -> None:
    """Here, or in test_siamese.py. MoCo v2 is MoCo with another head."""
    trained = {name.partition(",")[0] for name in (*methods.MAKERS, *siamese_networks.MAKE)}
    assert trained == set(METHODS) - {"moco-v2"} | {"multi-crop"}


def test_micro_batches_of_every_method_over_ranks(tmp_path: Path) -> None:
    """Two passes on every rank: without batch norm, ten steps end where one pass in one process ends."""
    run = replace(methods.TRAINED, norm=False)
    expected = work.alone(methods.train_each, run, str(tmp_path / "alone"))
    by_rank = gang.together(methods.train_each, 2, replace(run, micro_batch=4), str(tmp_path / "together"))
    for name in methods.MAKERS:
        for rank in by_rank:
            for key in expected[name]:
                assert distance(rank[name][key], expected[name][key]) <= 1e-9, (name, key)


@pytest.mark.parametrize("name", ["pirl", "moco"])
def test_a_step_taken_back_on_every_rank_leaves_its_bank_or_queue(name: str) -> None:
    """The rows that the images of all ranks have moved, to the bit, and the same ones on each."""
    by_rank = gang.together(moved.take_back, 2, name, 2, 0)
    for rank in by_rank:
        test_moved_rows.check(rank, name, updated=2)
        for state, first in zip(rank["states"], by_rank[0]["states"], strict=True):
            key = test_moved_rows.LARGE[name]
            assert state[key].tobytes() == first[key].tobytes()
