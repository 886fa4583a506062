"""The schedule against the authors' formula, at its boundaries and in its shape."""

from __future__ import annotations

import itertools
import math

import pytest

from barlowctl.errors import UserError
from barlowctl.train.schedule import epoch_cosine, epoch_drops, warmup_cosine
from tests.oracles.schedule import learning_rate


@pytest.mark.parametrize(("total", "warmup"), [(1000, 100), (300, 10), (7, 3), (50, 0)])
@pytest.mark.parametrize("final_scale", [0.001, 0.0, 1.0])
def test_every_step_matches_the_authors_formula(total: int, warmup: int, final_scale: float) -> None:
    for step in range(total + 1):
        expected = learning_rate(step, peak=1.6, total_steps=total, warmup_steps=warmup, end=1.6 * final_scale)
        factor = warmup_cosine(step, total_steps=total, warmup_steps=warmup, final_scale=final_scale)
        assert 1.6 * factor == pytest.approx(expected, rel=1e-12, abs=1e-15)


def test_boundaries() -> None:
    def factor(step: int) -> float:
        return warmup_cosine(step, total_steps=110, warmup_steps=10)

    assert factor(0) == 0.0
    assert factor(5) == 0.5
    assert factor(10) == 1.0
    assert factor(60) == pytest.approx(0.5 + 0.001 * 0.5)
    assert factor(110) == 0.001
    assert factor(500) == 0.001
    assert warmup_cosine(0, total_steps=10, warmup_steps=0) == 1.0


def test_it_rises_then_falls() -> None:
    values = [warmup_cosine(step, total_steps=200, warmup_steps=20) for step in range(201)]
    assert all(a < b for a, b in itertools.pairwise(values[:21]))
    assert all(a > b for a, b in itertools.pairwise(values[20:]))


def test_a_warm_up_may_fill_the_run_or_end_between_steps() -> None:
    assert warmup_cosine(9, total_steps=10, warmup_steps=10) == 0.9
    assert warmup_cosine(10, total_steps=10, warmup_steps=10) == 0.001
    assert warmup_cosine(2, total_steps=10, warmup_steps=2.5) == 0.8
    assert 0.9 < warmup_cosine(3, total_steps=10, warmup_steps=2.5) < 1.0


@pytest.mark.parametrize(
    ("step", "total", "warmup"), [(-1, 10, 0), (0, 0, 0), (0, 10, 11), (0, 10, -1), (0, 10, float("nan"))]
)
def test_impossible_schedules_are_refused(step: int, total: int, warmup: float) -> None:
    with pytest.raises(UserError):
        warmup_cosine(step, total_steps=total, warmup_steps=warmup)


def test_schedules_by_epoch() -> None:
    """torch's own schedulers, stepped once per epoch as in the authors' evaluate.py, are the oracle."""
    import torch

    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.3)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 7)
    for epoch in range(7):
        assert 0.3 * epoch_cosine(epoch, epochs=7) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-12)
        optimizer.step()
        cosine.step()
    factors = [epoch_drops(epoch, drops=(12, 16), factor=0.2) for epoch in range(20)]
    assert factors == pytest.approx([1.0] * 12 + [0.2] * 4 + [0.04] * 4)
    assert math.isclose(epoch_cosine(0, epochs=1), 1.0)
