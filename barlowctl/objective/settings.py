"""Settings of losses and methods that are refused when one is made: what is no number, or of the wrong size."""

from __future__ import annotations

from math import inf
from numbers import Integral, Real
from typing import Any

from barlowctl.errors import UserError, kind_of


def check_numbers(**settings: Any) -> None:
    """Refuse a setting that is no number.

    Raises:
        UserError: with its name.
    """
    for name, value in settings.items():
        if isinstance(value, bool) or not isinstance(value, Real):
            raise UserError(f"{name} is {value!r}, {kind_of(value)}", allowed="a number")


def check_weights(**weights: Any) -> None:
    """Refuse a weight of a term below 0, which would be driven up, and what is no number.

    Raises:
        UserError: with its name.
    """
    check_numbers(**weights)
    for name, weight in weights.items():
        if not 0.0 <= weight < inf:
            raise UserError(f"{name} is {weight}", allowed="0 or more")


def check_positive(**settings: Any) -> None:
    """Refuse a factor or divisor that is not above 0, and what is no number.

    Raises:
        UserError: with its name.
    """
    check_numbers(**settings)
    for name, value in settings.items():
        if not 0.0 < value < inf:
            raise UserError(f"{name} is {value}", allowed="a number above 0")


def check_shares(**settings: Any) -> None:
    """Refuse what is no part of a whole, such as a momentum above 1.

    Raises:
        UserError: with its name.
    """
    check_numbers(**settings)
    for name, value in settings.items():
        if not 0.0 <= value <= 1.0:
            raise UserError(f"{name} is {value}", allowed="0 to 1")


def check_counts(least: int, **counts: Any) -> None:
    """Refuse what is no whole number of at least so many.

    Raises:
        UserError: with its name.
    """
    for name, count in counts.items():
        if isinstance(count, bool) or not isinstance(count, Integral):
            raise UserError(f"{name} is {count!r}, {kind_of(count)}", allowed=f"a whole number, {least} or more")
        if count < least:
            raise UserError(f"{name} is {count}", allowed=f"{least} or more")
