"""Line charts: every point where it belongs, and the odd cases."""

from __future__ import annotations

import math
import re

import pytest

from barlowctl.plots.svg import BOTTOM, HEIGHT, LEFT, MOST_POINTS, RIGHT, TOP, WIDTH, Line, line_chart


def dots(svg: str) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in re.findall(r'cx="([\d.]+)" cy="([\d.]+)"', svg)]


def test_points_are_placed_linearly() -> None:
    points = dots(line_chart([Line("a", [0, 5, 10], [0.0, 0.5, 1.0])], x_label="step"))
    assert points[0] == (LEFT, HEIGHT - BOTTOM)
    assert points[2] == (WIDTH - RIGHT, TOP)
    assert points[1] == pytest.approx(((LEFT + WIDTH - RIGHT) / 2, (TOP + HEIGHT - BOTTOM) / 2), abs=0.11)


def test_logarithmic_axes() -> None:
    line = Line("a", [1, 10, 100], [1e-3, 1.0, 1e3])
    points = dots(line_chart([line], x_label="rank", log=True, log_x=True))
    assert points[0] == (LEFT, HEIGHT - BOTTOM)
    assert points[1] == pytest.approx(((LEFT + WIDTH - RIGHT) / 2, (TOP + HEIGHT - BOTTOM) / 2), abs=0.11)
    assert points[2] == (WIDTH - RIGHT, TOP)


@pytest.mark.parametrize("log", [False, True])
def test_what_cannot_be_shown_is_left_out(log: bool) -> None:
    line = Line("a", range(5), [1.0, math.nan, math.inf, -2.0, 4.0])
    assert len(dots(line_chart([line], x_label="step", log=log))) == (2 if log else 3)
    assert line_chart([Line("a", [1], [math.nan])], x_label="step", log=log) == ""
    assert line_chart([], x_label="step") == ""


@pytest.mark.parametrize("values", [[3.0, 3.0], [0.0, 0.0], [7.5]])
def test_constant_lines_and_single_points(values: list[float]) -> None:
    svg = line_chart([Line("a", range(1, len(values) + 1), values)], x_label="step")
    assert len(dots(svg)) == len(values)
    assert all(TOP <= y <= HEIGHT - BOTTOM for _, y in dots(svg))
    assert ("alone" in svg) is (len(values) == 1)


def test_long_lines_are_thinned_and_names_escaped() -> None:
    svg = line_chart([Line("<a>", range(100_000), [1.0 + x for x in range(100_000)])], x_label="step")
    assert MOST_POINTS - 1 <= len(dots(svg)) <= MOST_POINTS
    assert "<a>" not in svg
    assert "&lt;a&gt;: 100k at step" in svg
