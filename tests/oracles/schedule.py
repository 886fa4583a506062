"""The authors' learning rate, written out with peak and end as learning rates, not as factors."""

from __future__ import annotations

import math


def learning_rate(step: int, *, peak: float, total_steps: int, warmup_steps: int, end: float) -> float:
    if step < warmup_steps:
        return peak * step / warmup_steps
    done = (step - warmup_steps) / (total_steps - warmup_steps)
    q = 0.5 * (1 + math.cos(math.pi * done))
    return peak * q + end * (1 - q)
