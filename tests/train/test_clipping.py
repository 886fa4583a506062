"""Gradients of a larger norm than `clip_grad_norm`: scaled down to it, while the norm that is logged is their own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from barlowctl.methods import BarlowTwins
from barlowctl.train.events import StepDone
from tests.train.test_engine import SETTINGS, make, train

ONE_STEP = replace(SETTINGS, epochs=0.2, warmup_epochs=0.0, final_lr_scale=1.0, log_every_steps=1)


def step(folder: Path, limit: float, **settings: Any) -> tuple[dict[str, torch.Tensor], float]:
    """What one step of SGD at rate 0.1 moved, by name, and the norm that was logged."""
    method: BarlowTwins = make()[0]
    before = {name: p.detach().double().clone() for name, p in method.named_parameters()}
    torch.manual_seed(7)  # of the dropout
    _, recorder = train(folder, method=method, settings=replace(ONE_STEP, clip_grad_norm=limit, **settings))
    moved = {name: p.detach().double() - before[name] for name, p in method.named_parameters()}
    return moved, recorder.of(StepDone)[0].values["grad_norm"]


@pytest.mark.parametrize("deferred", [False, True])
def test_a_step_goes_as_far_as_the_limit_says_in_the_gradients_direction(tmp_path: Path, deferred: bool) -> None:
    free, norm = step(tmp_path / "free", 0.0)
    size = sum(float(change.square().sum()) for change in free.values()) ** 0.5
    assert size == pytest.approx(0.1 * norm, rel=1e-4)
    clipped, logged = step(tmp_path / "clipped", norm / 4, deferred=deferred)
    assert logged == pytest.approx(norm, rel=1e-6)
    for name, change in free.items():
        torch.testing.assert_close(clipped[name], change / 4, rtol=2e-3, atol=1e-7)


def test_a_limit_that_is_not_reached_changes_no_bit(tmp_path: Path) -> None:
    free, norm = step(tmp_path / "free", 0.0)
    clipped, _ = step(tmp_path / "clipped", 2 * norm)
    assert all(torch.equal(clipped[name], change) for name, change in free.items())


def test_micro_batches_are_clipped_as_a_whole(tmp_path: Path) -> None:
    """The norm is that of the sum, and one rank's part of it is never clipped by itself."""
    _, norm = step(tmp_path / "free", 0.0, micro_batch=5)
    clipped, logged = step(tmp_path / "clipped", norm / 4, micro_batch=5)
    assert logged == pytest.approx(norm, rel=1e-6)
    size = sum(float(change.square().sum()) for change in clipped.values()) ** 0.5
    assert size == pytest.approx(0.1 * norm / 4, rel=1e-4)
