"""Curves drawn with characters, for a terminal or a log."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from barlowctl.plots import style
from barlowctl.plots.axis import Axis

MARKS = "ox+*#%&@abcdefghijklmnpqrstuvwyz"
"""Of lines, in their order: of more than these a mark is two lines'."""
LEAST, MOST = 16, 72
"""Columns of a plot between its axes."""


def chart(
    title: str, series: Mapping[str, Sequence[tuple[float, float]]], *, columns: int = 80, height: int = 12
) -> list[str]:
    """Lines of text: the title, the plot with its axes, and no legend (see `legend`).

    Args:
        series: name -> (step, value); each is drawn with its own mark, later ones over earlier ones.
        columns: of the terminal; lines of the plot are no longer, save on a terminal of very few.
    """
    sound = [[point for point in points if math.isfinite(point[1])] for points in series.values()]
    every = [point for points in sound for point in points]
    if not every:
        return [f"{title}: nothing recorded yet"]
    across = Axis.around([step for step, _ in every], rounded=False)
    up = Axis.around([value for _, value in every], logarithmic=None, rounded=False)
    labels = {0: style.number(up.high), height - 1: style.number(up.low)}
    gutter = max(len(text) for text in labels.values())
    width = max(LEAST, min(MOST, columns - gutter - len(" |")))
    grid = [[" "] * width for _ in range(height)]
    for number, points in enumerate(sound):
        mark = MARKS[number % len(MARKS)]
        for column, value in _by_column(points, across, width):
            grid[height - 1 - min(height - 1, int(up.share(value) * height))][column] = mark
    scale = " (by decades)" if up.logarithmic else ""
    lines = [f"{title}{scale}"]
    lines += [f"{labels.get(row, ''):>{gutter}} |{''.join(cells).rstrip()}" for row, cells in enumerate(grid)]
    first, last = min(step for step, _ in every), max(step for step, _ in every)
    lines.append(f"{'':>{gutter}} +{'-' * width}")
    lines.append(f"{'':>{gutter}}  step {first:g}{f'{last:g}':>{max(1, width - 5 - len(f'{first:g}'))}}")
    return lines


def legend(names: Sequence[str]) -> str:
    """Which mark is whose."""
    return "   ".join(f"{MARKS[number % len(MARKS)]} {name}" for number, name in enumerate(names))


def _by_column(points: Sequence[tuple[float, float]], across: Axis, width: int) -> list[tuple[int, float]]:
    """The mean value in each column that has any."""
    columns: dict[int, list[float]] = {}
    for step, value in points:
        columns.setdefault(min(width - 1, int(across.share(step) * width)), []).append(value)
    return [(column, sum(values) / len(values)) for column, values in columns.items()]
