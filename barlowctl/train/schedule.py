"""Learning-rate schedules as pure functions of the step."""

from __future__ import annotations

import math
from collections.abc import Sequence

from barlowctl.errors import UserError


def warmup_cosine(step: int, *, total_steps: int, warmup_steps: float, final_scale: float = 0.001) -> float:
    """Factor of the peak learning rate at `step` (0 is the first step): the authors' `adjust_learning_rate`.

        step < warmup_steps:  step / warmup_steps           (the first step has learning rate 0)
        otherwise:            q + final_scale (1 - q),  q = (1 + cos(pi s / S)) / 2,
                              s = step - warmup_steps,  S = total_steps - warmup_steps

    `final_scale` is reached at `total_steps`, one past the last step of a run, and kept from there on.

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
    if step < warmup_steps:
        return step / warmup_steps
    if step >= total_steps:
        return final_scale
    q = 0.5 * (1.0 + math.cos(math.pi * (step - warmup_steps) / (total_steps - warmup_steps)))
    return q + final_scale * (1.0 - q)


def epoch_cosine(epoch: int, *, epochs: int) -> float:
    """`(1 + cos(pi epoch / epochs)) / 2`, constant within an epoch: linear evaluation, as in the authors' code."""
    return 0.5 * (1.0 + math.cos(math.pi * min(epoch, epochs) / epochs))


def epoch_drops(epoch: int, *, drops: Sequence[int], factor: float) -> float:
    """`factor` to the number of `drops` (epochs, counted from 0) that `epoch` has reached."""
    return float(factor ** sum(epoch >= drop for drop in drops))
