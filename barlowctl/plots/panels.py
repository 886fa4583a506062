"""Curves as one picture, drawn with Pillow: a panel per quantity, and one legend for all."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from barlowctl.plots.axis import Axis
from barlowctl.plots.style import FAINT, GRID, INK, PAPER, SMALL, TEXT, TITLE, Color, number, series_color, series_dash
from barlowctl.plots.text import drawable, fitted, font, shortened, suited

Points = Sequence[tuple[float, float]]

SIZE = (560, 330)
MARGIN = (64, 40, 16, 40)  # left, top, right, bottom
LEGEND_LINE = 26
SCALE = 2  # drawn larger and reduced: smooth lines
DOTS = 40
"""A line of fewer points shows each of them."""
SMALLEST = 1e-8
"""Of a spectrum's largest value: what is below is rounding."""


@dataclass(frozen=True)
class Panel:
    """Lines on one pair of axes.

    series: name -> (x, y); values that are not finite are left out, and on a logarithmic axis those that are not
        positive. log_y: None: where that is of use (`Axis.around`). meaning: what a value says, below the title.
    """

    title: str
    series: Mapping[str, Points]
    x_label: str = "step"
    log_x: bool = False
    log_y: bool | None = None
    meaning: str = ""


def curves(panels: Mapping[str, Mapping[str, Points]]) -> Image.Image:
    """The curves of runs over their steps: a panel per title, a line per series."""
    return panels_image([Panel(title, series) for title, series in panels.items()])


def spectra(series: Mapping[str, np.ndarray], title: str) -> Image.Image:
    """Descending positive sequences against their rank, both axes logarithmic."""
    points = {
        name: [(rank, float(y)) for rank, y in enumerate(values, start=1) if y > SMALLEST * float(values[0])]
        for name, values in series.items()
    }
    return panels_image([Panel(title, points, "rank", True, True)])


def panels_image(panels: Sequence[Panel]) -> Image.Image:
    """The picture, in one font; a series keeps its colour in all panels."""
    names = list(dict.fromkeys(name for panel in panels for name in panel.series))
    columns = min(2, len(panels))
    rows = -(-len(panels) // columns)
    size = (SIZE[0] * columns, SIZE[1] * rows + LEGEND_LINE * len(names) + 16)
    image = Image.new("RGB", (SCALE * size[0], SCALE * size[1]), PAPER)
    pen = ImageDraw.Draw(image)
    texts = [*names, *(text for panel in panels for text in (panel.title, panel.meaning, panel.x_label))]
    for index, panel in enumerate(panels):
        _panel(pen, (SIZE[0] * (index % columns), SIZE[1] * (index // columns)), panel, names, texts)
    letters = font(SCALE * TEXT, texts)
    for index, name in enumerate(names):
        y = SIZE[1] * rows + 14 + LEGEND_LINE * index
        _line(pen, [(MARGIN[0], y + 8), (MARGIN[0] + 34, y + 8)], series_color(index), 3, series_dash(index))
        own = suited(name, letters)
        word = shortened(name, own, SCALE * (size[0] - MARGIN[0] - 44 - MARGIN[2]))
        pen.text((SCALE * (MARGIN[0] + 44), SCALE * (y + 8)), word, INK, own, anchor="lm")
    return image.reduce(SCALE)


def _panel(
    pen: ImageDraw.ImageDraw, corner: tuple[int, int], panel: Panel, names: Sequence[str], texts: Sequence[str]
) -> None:
    """names: of all series, which have colours in their order. texts: all that the picture says."""
    lines = {name: sound(points, panel) for name, points in panel.series.items()}
    every = [point for points in lines.values() for point in points]
    across = Axis.around([x for x, _ in every], logarithmic=panel.log_x, rounded=False)
    up = Axis.around([y for _, y in every], logarithmic=panel.log_y)
    left, top = corner[0] + MARGIN[0], corner[1] + MARGIN[1]
    width, height = SIZE[0] - MARGIN[0] - MARGIN[2], SIZE[1] - MARGIN[1] - MARGIN[3]
    small, large = font(SCALE * SMALL, texts), font(SCALE * TITLE, texts)

    def to_pixels(x: float, y: float) -> tuple[float, float]:
        return left + width * across.share(x), top + height * (1 - up.share(y))

    pen.text(
        (SCALE * left, SCALE * (corner[1] + (4 if panel.meaning else 14))), drawable(panel.title, large), INK, large
    )
    pen.text((SCALE * left, SCALE * (corner[1] + 22)), fitted(panel.meaning, small, SCALE * width), FAINT, small)
    for tick in up.ticks:
        y = to_pixels(across.low, tick)[1]
        _line(pen, [(left, y), (left + width, y)], GRID, 1)
        pen.text((SCALE * (left - 6), SCALE * y), number(tick), FAINT, small, anchor="rm")
    for tick in across.ticks:
        x = to_pixels(tick, up.low)[0]
        pen.text((SCALE * x, SCALE * (top + height + 6)), number(tick), FAINT, small, anchor="ma")
    for index, (name, points) in enumerate(lines.items()):
        pixels = [to_pixels(*point) for point in points]
        hidden = len(lines) - 1 - index  # lines that may lie on this one, which shows behind them
        at = names.index(name)
        _line(pen, pixels, series_color(at), 2 + min(hidden, 3), series_dash(at))
        for x, y in pixels if len(pixels) < DOTS else ():
            box = [SCALE * (x - 2.5), SCALE * (y - 2.5), SCALE * (x + 2.5), SCALE * (y + 2.5)]
            pen.ellipse(box, series_color(at))
    _line(pen, [(left, top + height), (left + width, top + height)], FAINT, 1)
    pen.text((SCALE * (left + width), SCALE * (top + height + 22)), panel.x_label, FAINT, small, anchor="ra")


def sound(points: Points, panel: Panel) -> list[tuple[float, float]]:
    """The points that can be shown."""
    return [(x, y) for x, y in points if math.isfinite(y) and (y > 0 or not panel.log_y) and (x > 0 or not panel.log_x)]


def _line(pen: ImageDraw.ImageDraw, points: Points, color: Color, width: int, dashes: Sequence[int] = ()) -> None:
    for stroke in broken(points, dashes):
        if len(stroke) > 1:
            pen.line([(SCALE * x, SCALE * y) for x, y in stroke], color, SCALE * width, joint="curve")


def broken(points: Points, dashes: Sequence[int]) -> list[list[tuple[float, float]]]:
    """The strokes of a line, each a line of its own. dashes: lengths of strokes and gaps in turn; none: one stroke."""
    if not dashes or len(points) < 2:
        return [list(points)]
    strokes, number, left = [[points[0]]], 0, float(dashes[0])
    for (x, y), (end_x, end_y) in itertools.pairwise(points):
        while (distance := math.hypot(end_x - x, end_y - y)) > left:
            x, y = x + (end_x - x) * left / distance, y + (end_y - y) * left / distance
            if number % 2 == 0:
                strokes[-1].append((x, y))
            else:
                strokes.append([(x, y)])
            number += 1
            left = float(dashes[number % len(dashes)])
        left -= distance
        if number % 2 == 0:
            strokes[-1].append((end_x, end_y))
    return strokes
