"""Line charts as SVG, for a page that needs no script and no network."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass

from barlowctl.plots.axis import Axis
from barlowctl.plots.style import DASHES, SERIES, number

WIDTH, HEIGHT = 420, 236
LEFT, RIGHT, TOP, BOTTOM = 54, 12, 12, 30
MOST_POINTS = 400
"""Of a line: more are thinned out, which at this width nobody sees."""


@dataclass(frozen=True)
class Line:
    """A named line. `number`: gives its colour and its dashes (`style.css`)."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    number: int = 0


def line_chart(lines: Sequence[Line], *, x_label: str, log: bool | None = False, log_x: bool = False) -> str:
    """An SVG of the lines, with values to point at; empty when no line has a finite point. One point alone is a dot.

    Args:
        log: the vertical axis is logarithmic; values that are not positive are left out. None: it is where all are
            positive and span `axis.WIDE`.
    """
    if log is None:
        log = Axis.around([float(y) for line in lines for y in line.y], logarithmic=None).logarithmic
    thinned = [(line, _points(line, log, log_x)) for line in lines]
    drawn_lines = [(line, points) for line, points in thinned if points]
    if not drawn_lines:
        return ""
    across = Axis.around([x for _, points in drawn_lines for x, _ in points], logarithmic=log_x, rounded=False)
    up = Axis.around([y for _, points in drawn_lines for _, y in points], logarithmic=log)

    def to_pixels(x: float, y: float) -> tuple[float, float]:
        return (
            LEFT + (WIDTH - LEFT - RIGHT) * across.share(x),
            HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * up.share(y),
        )

    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img">']
    for tick in up.ticks:
        _, y = to_pixels(across.low, tick)
        parts.append(f'<path class="grid" d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 3.5:.1f}" text-anchor="end">{number(tick)}</text>')
    for tick in across.ticks:
        x, _ = to_pixels(tick, up.low)
        parts.append(f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 15}" text-anchor="middle">{number(tick)}</text>')
    parts.append(f'<path class="axis" d="M{LEFT} {HEIGHT - BOTTOM}H{WIDTH - RIGHT}"/>')
    parts.append(f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - 3}" text-anchor="end">{html.escape(x_label)}</text>')
    for line, points in drawn_lines:
        pixels = [to_pixels(x, y) for x, y in points]
        css = f"c{line.number % len(SERIES)}"
        stroke = line_classes(line.number)
        path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in pixels)
        parts.append(f'<path class="line {stroke}" d="{path}"/>')
        for (x, y), (at, value) in zip(pixels, points, strict=True):
            text = html.escape(f"{line.name}: {number(value)} at {x_label} {number(at)}")
            kind = css + (" alone" if len(points) == 1 else "")
            dot = f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="5">'
            parts.append(f"{dot}<title>{text}</title></circle>")
    parts.append("</svg>")
    return "".join(parts)


def line_classes(number: int) -> str:
    """CSS classes of a line, by its number from 0."""
    dashes = number // len(SERIES) % len(DASHES)
    return f"c{number % len(SERIES)}" + (f" d{dashes}" if dashes else "")


def sample(number: int) -> str:
    """A short piece of a line, for a legend."""
    return f'<svg class="key" viewBox="0 0 30 8"><path class="line {line_classes(number)}" d="M0 4H30"/></svg>'


def _points(line: Line, log: bool, log_x: bool) -> list[tuple[float, float]]:
    pairs = [
        (float(x), float(y))
        for x, y in zip(line.x, line.y, strict=True)
        if math.isfinite(y) and (y > 0 or not log) and (x > 0 or not log_x)
    ]
    if len(pairs) <= MOST_POINTS:
        return pairs
    if log_x:  # dense where the axis is wide
        last = math.log(len(pairs))
        chosen = sorted({round(math.exp(last * step / (MOST_POINTS - 1))) - 1 for step in range(MOST_POINTS)})
    else:
        chosen = sorted({round(step * (len(pairs) - 1) / (MOST_POINTS - 1)) for step in range(MOST_POINTS)})
    return [pairs[index] for index in chosen]
