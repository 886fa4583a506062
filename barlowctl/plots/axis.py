"""An axis: which values it holds, where each lies, and the round numbers beside it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

WIDE = 30.0
"""Positive values whose largest is more than so many times the smallest are shown by decades, where that is free."""


@dataclass(frozen=True)
class Axis:
    """Values to shares of a length, linear or by decades. ticks: round numbers within, ascending."""

    low: float
    high: float
    logarithmic: bool = False
    ticks: tuple[float, ...] = ()

    @classmethod
    def around(cls, values: Sequence[float], *, logarithmic: bool | None = False, rounded: bool = True) -> Axis:
        """An axis that holds the finite values; of a logarithmic one, those that are positive.

        Args:
            logarithmic: None: where all values are positive and span more than `WIDE`.
            rounded: it begins and ends at a round number; else at the least and the largest value.
        """
        finite = [value for value in values if math.isfinite(value)]
        if logarithmic is None:
            logarithmic = bool(finite) and min(finite) > 0 and max(finite) / min(finite) > WIDE
        held = [value for value in finite if value > 0 or not logarithmic] or ([1.0] if logarithmic else [0.0, 1.0])
        low, high = min(held), max(held)
        if low == high:
            around = 0.5 if low == 0 else abs(low) / 2
            low, high = low - around, high + around
        ticks = _decades(low, high) if logarithmic else _round(low, high)
        if rounded:
            return cls(min(ticks[0], low), max(ticks[-1], high), logarithmic, tuple(ticks))
        return cls(low, high, logarithmic, tuple(tick for tick in ticks if low <= tick <= high))

    def share(self, value: float) -> float:
        """Where a value lies: 0 at the low end and 1 at the high one; outside of that where it is beyond."""
        if self.logarithmic:
            return math.log(max(value, 1e-300) / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)


def _round(low: float, high: float) -> list[float]:
    """Four to seven round numbers that enclose [low, high]."""
    raw = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10, 20) if power * factor >= raw)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [index * step for index in range(first, last + 1)]


def _decades(low: float, high: float) -> list[float]:
    """Powers of ten around [low, high], at most seven; with 2 and 5 between them where there are few."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    if last - first <= 2:
        fine = [factor * 10.0**power for power in range(first, last + 1) for factor in (1, 2, 5)]
        below = max((tick for tick in fine if tick <= low), default=fine[0])
        above = min((tick for tick in fine if tick >= high), default=fine[-1])
        return [tick for tick in fine if below <= tick <= above]
    apart = max(1, (last - first) // 6)
    return [10.0**power for power in range(first, last + apart, apart)]
