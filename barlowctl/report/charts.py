"""Line charts as SVG, for a page that needs no script and no network."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 420, 236
LEFT, RIGHT, TOP, BOTTOM = 54, 12, 12, 30
MOST_POINTS = 400
"""Of a line: more are thinned out, which at this width nobody sees."""


@dataclass(frozen=True)
class Line:
    """A named line. `style`: index of its colour on the page."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    style: int = 0


def line_chart(lines: Sequence[Line], *, x_label: str, log: bool = False, log_x: bool = False) -> str:
    """An SVG of the lines, with values to point at; empty when no line has a finite point. One point alone is a dot.

    Args:
        log: the vertical axis is logarithmic; values that are not positive are left out.
    """
    thinned = [(line, _points(line, log, log_x)) for line in lines]
    kept = [(line, points) for line, points in thinned if points]
    if not kept:
        return ""
    xs = [x for _, points in kept for x, _ in points]
    ys = [y for _, points in kept for _, y in points]
    x_low, x_high = min(xs), max(xs)
    if x_low == x_high:
        x_low, x_high = x_low / 2, x_high * 1.5 or 1.0
    y_ticks = _log_ticks(min(ys), max(ys)) if log else _ticks(min(ys), max(ys))
    x_ticks = _log_ticks(x_low, x_high) if log_x else _ticks(x_low, x_high)
    y_low, y_high = min(*y_ticks, min(ys)), max(*y_ticks, max(ys))

    def place(x: float, y: float) -> tuple[float, float]:
        left, width = (math.log10(x), math.log10(x_high) - math.log10(x_low)) if log_x else (x, x_high - x_low)
        start = math.log10(x_low) if log_x else x_low
        down, height = (math.log10(y), math.log10(y_high) - math.log10(y_low)) if log else (y, y_high - y_low)
        floor = math.log10(y_low) if log else y_low
        return (
            LEFT + (WIDTH - LEFT - RIGHT) * (left - start) / (width or 1.0),
            HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (down - floor) / (height or 1.0),
        )

    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img">']
    for tick in y_ticks:
        _, y = place(x_low, tick)
        parts.append(f'<path class="grid" d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 3.5:.1f}" text-anchor="end">{_number(tick)}</text>')
    for tick in x_ticks:
        if x_low <= tick <= x_high:
            x, _ = place(tick, y_low)
            parts.append(f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 15}" text-anchor="middle">{_number(tick)}</text>')
    parts.append(f'<path class="axis" d="M{LEFT} {HEIGHT - BOTTOM}H{WIDTH - RIGHT}"/>')
    parts.append(f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - 3}" text-anchor="end">{html.escape(x_label)}</text>')
    for line, points in kept:
        placed = [place(x, y) for x, y in points]
        path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in placed)
        parts.append(f'<path class="line c{line.style}" d="{path}"/>')
        for (x, y), (at, value) in zip(placed, points, strict=True):
            text = html.escape(f"{line.name}: {_number(value)} at {x_label} {_number(at)}")
            kind = f"c{line.style}" + (" alone" if len(points) == 1 else "")
            dot = f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="5">'
            parts.append(f"{dot}<title>{text}</title></circle>")
    parts.append("</svg>")
    return "".join(parts)


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


def _ticks(low: float, high: float) -> list[float]:
    """Four to seven round numbers that enclose [low, high]."""
    if low == high:
        low, high = (low - 0.5, high + 0.5) if low == 0 else (low - abs(low) / 2, high + abs(high) / 2)
    raw = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= raw)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [index * step for index in range(first, last + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten around [low, high], at most seven; with 2 and 5 between them where there are few."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    if last - first <= 2:
        fine = [factor * 10.0**power for power in range(first, last + 1) for factor in (1, 2, 5)]
        below = max((tick for tick in fine if tick <= low), default=fine[0])
        above = min((tick for tick in fine if tick >= high), default=fine[-1])
        return [tick for tick in fine if below <= tick <= above]
    return [10.0**power for power in range(first, last + 1, max(1, (last - first) // 6))]


def _number(value: float) -> str:
    if value == 0:
        return "0"
    if abs(value) >= 10_000:
        return f"{value / 1000:,.4g}k" if abs(value) < 1e6 else f"{value:.3g}"
    return f"{value:.4g}"
