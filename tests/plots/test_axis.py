"""Axes: what they hold, their round numbers, and where a value lies."""

from __future__ import annotations

import math

import pytest

from barlowctl.plots.axis import Axis


def test_axes_are_by_decades_when_values_span_them() -> None:
    assert not Axis.around([1.0, 2.0], logarithmic=None).logarithmic
    wide = Axis.around([1.0, 1000.0], logarithmic=None)
    assert wide.logarithmic
    assert wide.ticks == (1.0, 10.0, 100.0, 1000.0)
    assert wide.share(1.0) == 0.0
    assert wide.share(10.0**1.5) == pytest.approx(0.5)
    assert wide.share(1000.0) == 1.0
    assert not Axis.around([-1.0, 1000.0], logarithmic=None).logarithmic


@pytest.mark.parametrize(
    ("values", "logarithmic", "ticks"),
    [
        ([0.0, 1.0], False, [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        ([3.0, 98.0], False, [0.0, 20.0, 40.0, 60.0, 80.0, 100.0]),
        ([-7.0, 4.0], False, [-7.5, -5.0, -2.5, 0.0, 2.5, 5.0]),
        ([30.0, 400.0], True, [20.0, 50.0, 100.0, 200.0, 500.0]),
        ([2e-9, 4e3], True, [1e-9, 1e-7, 1e-5, 1e-3, 1e-1, 1e1, 1e3, 1e5]),
    ],
)
def test_round_numbers_enclose_the_values(values: list[float], logarithmic: bool, ticks: list[float]) -> None:
    axis = Axis.around(values, logarithmic=logarithmic)
    assert list(axis.ticks) == pytest.approx(ticks)
    assert (axis.low, axis.high) == pytest.approx((ticks[0], ticks[-1]))
    exact = Axis.around(values, logarithmic=logarithmic, rounded=False)
    assert (exact.low, exact.high) == (min(values), max(values))
    assert list(exact.ticks) == pytest.approx([tick for tick in ticks if min(values) <= tick <= max(values)])


@pytest.mark.parametrize("values", [[3.0, 3.0], [0.0], [-2.0], [], [math.nan, math.inf]])
@pytest.mark.parametrize("logarithmic", [False, True, None])
def test_level_or_absent_values_still_have_an_axis(values: list[float], logarithmic: bool | None) -> None:
    axis = Axis.around(values, logarithmic=logarithmic)
    assert axis.low < axis.high
    assert all(axis.low <= tick <= axis.high for tick in axis.ticks)
    assert all(0 <= axis.share(value) <= 1 for value in values if math.isfinite(value) and value > 0)
