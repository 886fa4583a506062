"""The schedule against the authors' formula, at its boundaries and in its shape."""

from __future__ import annotations

import itertools
import math

import pytest

from barlowctl.errors import UserError
from barlowctl.train.schedule import epoch_drops, scheduled, warmup_cosine, warmup_drops
from barlowctl.train.settings import Settings
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
    by_epoch = {"steps_per_epoch": 5, "warmup_epochs": 0.0, "every": "epoch", "final_scale": 0.0}
    for epoch in range(7):
        factors = [scheduled(5 * epoch + step, total_steps=35, **by_epoch) for step in range(5)]
        assert [0.3 * factor for factor in factors] == pytest.approx([optimizer.param_groups[0]["lr"]] * 5, rel=1e-12)
        optimizer.step()
        cosine.step()
    factors = [epoch_drops(epoch, drops=(12, 16), factor=0.2) for epoch in range(20)]
    assert factors == pytest.approx([1.0] * 12 + [0.2] * 4 + [0.04] * 4)
    assert scheduled(4, total_steps=5, **by_epoch) == 1.0


def moco(step: int, *, epochs: int, steps_per_epoch: int, cos: bool, drops: tuple[int, ...] = ()) -> float:
    """`adjust_learning_rate` of facebookresearch/moco and simsiam, whose epoch is a whole number."""
    epoch, lr = step // steps_per_epoch, 1.0
    if cos:
        return lr * 0.5 * (1.0 + math.cos(math.pi * epoch / epochs))
    for milestone in drops:
        lr *= 0.1 if epoch >= milestone else 1.0
    return lr


def test_a_cosine_by_epoch_and_drops_are_mocos() -> None:
    for step in range(60):
        moco_s, ours = {"epochs": 20, "steps_per_epoch": 3}, {"total_steps": 60, "steps_per_epoch": 3}
        cosine = scheduled(step, **ours, warmup_epochs=0, every="epoch", final_scale=0.0)
        assert cosine == pytest.approx(moco(step, **moco_s, cos=True), rel=1e-14, abs=1e-15)
        drops = scheduled(step, **ours, warmup_epochs=0, kind="step", milestones=(12, 16))
        assert drops == pytest.approx(moco(step, **moco_s, cos=False, drops=(12, 16)), rel=1e-14)
        assert scheduled(step, **ours, warmup_epochs=0, kind="constant") == 1.0


def test_a_warm_up_may_begin_above_zero_and_its_end_does_not_depend_on_what_follows() -> None:
    """SwAV's 0.3 -> 4.8 -> 0.0048: `np.linspace` and its cosine, except its last step (see `warmup_cosine`)."""
    import numpy as np

    epochs, warmup, steps = 20, 10, 8
    up = np.linspace(0.3, 4.8, steps * warmup + 1)[:-1]
    t = np.arange(steps * (epochs - warmup))
    down = 0.0048 + 0.5 * (4.8 - 0.0048) * (1 + np.cos(math.pi * t / (steps * (epochs - warmup))))
    rates = [
        4.8
        * scheduled(
            step, total_steps=epochs * steps, steps_per_epoch=steps, warmup_epochs=warmup, start_scale=0.3 / 4.8
        )
        for step in range(epochs * steps)
    ]
    assert rates == pytest.approx([*up, *down], rel=1e-12)
    for options in ({"kind": "step", "milestones": (12,)}, {"kind": "constant"}, {"every": "epoch"}):
        others = [
            4.8
            * scheduled(
                step,
                total_steps=epochs * steps,
                steps_per_epoch=steps,
                warmup_epochs=warmup,
                start_scale=0.3 / 4.8,
                **options,
            )
            for step in range(epochs * steps)
        ]
        assert others[: warmup * steps + 1] == rates[: warmup * steps + 1]
        assert len(set(others[warmup * steps :])) == {"step": 2, "constant": 1}.get(str(options.get("kind")), 10)
    with pytest.raises(UserError, match="does not fit"):
        scheduled(3, total_steps=4, steps_per_epoch=4, warmup_epochs=2, kind="constant")


def test_by_default_the_engine_has_the_authors_schedule_bit_for_bit() -> None:
    settings = Settings(
        epochs=3, steps_per_epoch=7, warmup_epochs=0.7, final_lr_scale=0.001, precision="fp32", log_every_steps=1,
        checkpoint_every_epochs=1, keep_checkpoints=1, evaluate_every_epochs=0,
    )  # fmt: skip
    for step in range(21):
        q = 0.5 * (1.0 + math.cos(math.pi * (step - 0.7 * 7) / (21 - 0.7 * 7)))
        assert settings.lr_factor(step) == (step / (0.7 * 7) if step < 0.7 * 7 else q + 0.001 * (1.0 - q))


def test_a_cosine_by_epoch_after_a_warm_up_that_ends_within_one_begins_at_the_peak() -> None:
    """10 steps of 2.5 epochs; the rest of the third epoch has the peak, the fourth is the first of the cosine."""
    rates = [
        scheduled(step, total_steps=20, steps_per_epoch=4, warmup_epochs=2.5, every="epoch", final_scale=0.0)
        for step in range(9, 14)
    ]
    fourth = 0.5 * (1.0 + math.cos(math.pi * 0.5 / 2.5))
    assert rates == pytest.approx([0.9, 1.0, 1.0, fourth, fourth], rel=1e-12)


def test_warm_up_and_drops_are_detectron2s() -> None:
    """VOC's schedule of the paper at the iterations where it changes, and one without a warm-up."""

    def rate(step: int) -> float:
        return 0.1 * warmup_drops(step, warmup_steps=1000, start_scale=0.333, drops=(18_000, 22_000))

    expected = {0: 0.0333, 500: 0.06665, 1000: 0.1, 17_999: 0.1, 18_000: 0.01, 21_999: 0.01, 22_000: 0.001}
    assert {step: rate(step) for step in expected} == pytest.approx(expected, rel=1e-12)
    assert [warmup_drops(step, warmup_steps=0, start_scale=0.5, drops=(2,)) for step in range(3)] == [1.0, 1.0, 0.1]
    assert warmup_drops(1, warmup_steps=4, start_scale=0.0, drops=(1, 1)) == pytest.approx(0.0025)
