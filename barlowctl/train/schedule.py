"""Learning-rate schedules as pure functions of the step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from barlowctl.errors import UserError

Kind = Literal["cosine", "step", "constant"]
Every = Literal["step", "epoch"]


def scheduled(
    step: int,
    *,
    total_steps: int,
    steps_per_epoch: int,
    warmup_epochs: float,
    start_scale: float = 0.0,
    kind: Kind = "cosine",
    every: Every = "step",
    final_scale: float = 0.001,
    milestones: Sequence[int] = (),
    milestone_factor: float = 0.1,
) -> float:
    """Factor of the peak learning rate at `step` (0 is the first step) of a run of `total_steps`.

    A linear warm-up by step (see `warmup_cosine`); after it

        "cosine"    as `warmup_cosine` has it; with `every` "epoch" s and S are whole epochs: constant within one
        "step"      `milestone_factor` to the number of `milestones` (epochs) that are over: see `epoch_drops`
        "constant"  1

    Raises:
        UserError: a negative step, no steps at all, or a warm-up longer than the run.
    """
    total, warmup = total_steps, warmup_epochs * steps_per_epoch
    if step < warmup or (kind == "cosine" and every == "step"):
        return warmup_cosine(
            step, total_steps=total, warmup_steps=warmup, final_scale=final_scale, start_scale=start_scale
        )
    check_steps(step, total, warmup)
    epoch = step // steps_per_epoch
    if kind == "cosine":
        after_warmup, epochs = max(epoch, warmup_epochs), math.ceil(total_steps / steps_per_epoch)
        return warmup_cosine(after_warmup, total_steps=epochs, warmup_steps=warmup_epochs, final_scale=final_scale)
    return epoch_drops(epoch, drops=milestones, factor=milestone_factor) if kind == "step" else 1.0


def warmup_cosine(
    step: float, *, total_steps: int, warmup_steps: float, final_scale: float = 0.001, start_scale: float = 0.0
) -> float:
    """Factor of the peak learning rate at `step` (0 is the first step): the authors' `adjust_learning_rate`.

        step < warmup_steps:  start_scale + (1 - start_scale) step / warmup_steps
        otherwise:            q + final_scale (1 - q),  q = (1 + cos(pi s / S)) / 2,
                              s = step - warmup_steps,  S = total_steps - warmup_steps

    `final_scale` is reached at `total_steps`, one past the last step of a run, and kept from there on. The authors'
    warm-up begins at 0. Deviation: SwAV's, from another start, divides by warmup_steps - 1, so that it ends a step
    earlier.

    Raises:
        UserError: see `check_steps`.
    """
    check_steps(step, total_steps, warmup_steps)
    if step < warmup_steps:
        return start_scale + (1.0 - start_scale) * (step / warmup_steps)
    if step >= total_steps:
        return final_scale
    q = 0.5 * (1.0 + math.cos(math.pi * (step - warmup_steps) / (total_steps - warmup_steps)))
    return q + final_scale * (1.0 - q)


def check_steps(step: float, total_steps: int, warmup_steps: float) -> None:
    """Refuse a step or a warm-up that no run has.

    Raises:
        UserError: a negative step, no steps at all, or a warm-up longer than the run.
    """
    if step < 0 or total_steps < 1:
        raise UserError(f"step {step} of {total_steps}: a schedule has at least 1 step, counted from 0")
    if not 0 <= warmup_steps <= total_steps:
        raise UserError(
            f"a warm-up of {warmup_steps:g} steps does not fit in a run of {total_steps}",
            allowed=f"0 to {total_steps} steps",
            next="lower train.warmup_epochs or raise train.epochs",
        )


def warmup_drops(
    step: int, *, warmup_steps: int, start_scale: float, drops: Sequence[int], factor: float = 0.1
) -> float:
    """Factor of the peak learning rate at `step` (0 is the first step): detectron2's `WarmupMultiStepLR`.

    `factor` to the number of `drops` (steps, counted from 0) that `step` has reached, and in the first T `warmup_steps`
    times w (1 - step / T) + step / T, w being `start_scale`.
    """
    share = min(step / warmup_steps, 1.0) if warmup_steps else 1.0
    return float((start_scale * (1.0 - share) + share) * factor ** sum(step >= drop for drop in drops))


def epoch_drops(epoch: int, *, drops: Sequence[int], factor: float) -> float:
    """`factor` to the number of `drops` (epochs, counted from 0) that `epoch` has reached."""
    return float(factor ** sum(epoch >= drop for drop in drops))
