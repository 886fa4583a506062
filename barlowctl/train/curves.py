"""Curves of several runs as one picture, drawn with Pillow."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

Points = Sequence[tuple[float, float]]

# Okabe and Ito's colours, which people with any colour vision tell apart; black last.
COLORS = ((0, 114, 178), (213, 94, 0), (0, 158, 115), (204, 121, 167), (230, 159, 0), (86, 180, 233), (0, 0, 0))
BACKGROUND, INK, GRID = (255, 255, 255), (40, 40, 40), (225, 225, 225)
PANEL = (560, 330)
MARGIN = (64, 34, 16, 40)  # left, top, right, bottom
SCALE = 2  # drawn larger and reduced: smooth lines


@dataclass(frozen=True)
class Axis:
    """Values to pixels, linear or by decades."""

    low: float
    high: float
    logarithmic: bool = False

    @classmethod
    def around(cls, values: Sequence[float], *, may_be_logarithmic: bool = True) -> Axis:
        """An axis that holds the finite values; by decades where they are positive and span more than 30-fold."""
        finite = [value for value in values if math.isfinite(value)] or [0.0, 1.0]
        low, high = min(finite), max(finite)
        if may_be_logarithmic and low > 0 and high / low > 30:
            return cls(low / 1.15, high * 1.15, True)
        room = (high - low) * 0.05 or abs(high) * 0.05 or 1.0
        return cls(low - room, high + room)

    def share(self, value: float) -> float:
        """Where a value lies, 0 at the low end and 1 at the high one."""
        if self.logarithmic:
            return math.log(max(value, 1e-300) / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def ticks(self) -> list[float]:
        """Round values within the axis."""
        if self.logarithmic:
            first, last = math.ceil(math.log10(self.low)), math.floor(math.log10(self.high))
            return [10.0**power for power in range(first, last + 1)]
        rough = (self.high - self.low) / 5
        size = 10.0 ** math.floor(math.log10(rough))
        step = next(factor * size for factor in (1, 2, 5, 10) if factor * size >= rough)
        first = math.ceil(self.low / step)
        return [number * step for number in range(first, math.floor(self.high / step) + 1)]


def draw(panels: Mapping[str, Mapping[str, Points]]) -> Image.Image:
    """One panel per title, one line per series; a series keeps its colour in all of them.

    Args:
        panels: title -> series -> (step, value). Values that are not finite are left out.
    """
    names = list(dict.fromkeys(name for series in panels.values() for name in series))
    columns = min(2, len(panels))
    rows = -(-len(panels) // columns)
    legend = 26 * len(names) + 16
    size = (PANEL[0] * columns, PANEL[1] * rows + legend)
    image = Image.new("RGB", (SCALE * size[0], SCALE * size[1]), BACKGROUND)
    pen = ImageDraw.Draw(image)
    colors = {name: COLORS[number % len(COLORS)] for number, name in enumerate(names)}
    for number, (title, series) in enumerate(panels.items()):
        corner = (PANEL[0] * (number % columns), PANEL[1] * (number // columns))
        _panel(pen, corner, title, series, colors)
    for number, name in enumerate(names):
        y = PANEL[1] * rows + 14 + 26 * number
        _line(pen, [(MARGIN[0], y + 8), (MARGIN[0] + 34, y + 8)], colors[name], 4)
        pen.text((SCALE * (MARGIN[0] + 44), SCALE * y), name, INK, _font(13))
    return image.resize(size, Image.Resampling.LANCZOS)


def _panel(
    pen: ImageDraw.ImageDraw,
    corner: tuple[int, int],
    title: str,
    series: Mapping[str, Points],
    colors: Mapping[str, tuple[int, int, int]],
) -> None:
    sound = {name: [point for point in points if math.isfinite(point[1])] for name, points in series.items()}
    every = [point for points in sound.values() for point in points]
    across = Axis.around([step for step, _ in every], may_be_logarithmic=False)
    up = Axis.around([value for _, value in every])
    left, top = corner[0] + MARGIN[0], corner[1] + MARGIN[1]
    width, height = PANEL[0] - MARGIN[0] - MARGIN[2], PANEL[1] - MARGIN[1] - MARGIN[3]

    def place(step: float, value: float) -> tuple[float, float]:
        return left + width * across.share(step), top + height * (1 - up.share(value))

    pen.text((SCALE * left, SCALE * (corner[1] + 10)), title, INK, _font(15))
    for value in up.ticks():
        y = place(across.low, value)[1]
        _line(pen, [(left, y), (left + width, y)], GRID, 1)
        pen.text((SCALE * (left - 6), SCALE * y), f"{value:g}", INK, _font(11), anchor="rm")
    for step in across.ticks():
        x = place(step, up.low)[0]
        _line(pen, [(x, top), (x, top + height)], GRID, 1)
        pen.text((SCALE * x, SCALE * (top + height + 6)), f"{step:g}", INK, _font(11), anchor="ma")
    for number, (name, points) in enumerate(sound.items()):
        placed = [place(*point) for point in points]
        _line(pen, placed, colors[name], 2 + 2 * (len(sound) - 1 - number))  # earlier ones show behind later ones
        for x, y in placed if len(placed) < 40 else ():
            pen.ellipse([SCALE * (x - 2.5), SCALE * (y - 2.5), SCALE * (x + 2.5), SCALE * (y + 2.5)], colors[name])
    _line(pen, [(left, top), (left, top + height), (left + width, top + height)], INK, 1)
    pen.text((SCALE * (left + width), SCALE * (top + height + 22)), "step", INK, _font(11), anchor="ra")


def _line(
    pen: ImageDraw.ImageDraw, points: Sequence[tuple[float, float]], color: tuple[int, int, int], width: int
) -> None:
    if len(points) > 1:
        pen.line([(SCALE * x, SCALE * y) for x, y in points], color, SCALE * width, joint="curve")


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(SCALE * size)
