"""Rounds in both orders of the rows, A B B A A B B A ..., and what a value comes to over them.

A shared machine may favour a place in the turns: whoever is always second is then faster by that alone. So the order
turns around after each round, and a value is the mean of two medians, over the rounds in the rows' own order and over
those in the reverse. A median over all would be that of the order with more rounds.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any, TypeVar

Row = TypeVar("Row")


def in_order(rows: Sequence[Row], number: int) -> Sequence[Row]:
    """The rows as they run in a round: from the first to the last in odd ones, and back in even ones. 1: the first."""
    return rows if number % 2 else rows[::-1]


def medians(values: Sequence[float]) -> list[float]:
    """The medians over the rounds in the rows' own order and, if there is one, over those in the reverse."""
    return [statistics.median(part) for part in (values[::2], values[1::2]) if part]


def middle(values: Sequence[float]) -> float:
    """The mean of both orders' medians; of a single round, its value."""
    return statistics.fmean(medians(values))


def with_range(key: str, values: Sequence[float] | None, digits: int) -> dict[str, Any]:
    """`middle` under the key, with [least, most] beside it under the same name and `_range`. None: both are None."""
    if not values:
        return {key: None, f"{key}_range": None}
    return {
        key: round(middle(values), digits),
        f"{key}_range": [round(min(values), digits), round(max(values), digits)],
    }


def ratios(key: str, values: Sequence[float] | None, digits: int) -> dict[str, Any]:
    """`with_range`, and under `_by_order` the median in each order: how much a place in the turns changes it."""
    by_order = [round(median, digits) for median in medians(values)] if values else None
    return {**with_range(key, values, digits), f"{key}_by_order": by_order}
