"""The one style of everything that is drawn: colours, sizes of text, how a number is written.

Pillow, the SVG of a page, its CSS and matplotlib take their values from here.
"""

from __future__ import annotations

import math
from typing import Any

Color = tuple[int, int, int]

# Okabe and Ito's colours, which people with any colour vision tell apart; black last.
BLUE, VERMILION, GREEN = (0, 114, 178), (213, 94, 0), (0, 158, 115)
PURPLE, ORANGE, SKY, BLACK = (204, 121, 167), (230, 159, 0), (86, 180, 233), (0, 0, 0)
SERIES: tuple[Color, ...] = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, BLACK)
"""Of lines, in their order; an eighth line has the first one's colour again, and is dashed."""
DASHES: tuple[tuple[int, ...], ...] = ((), (7, 3), (2, 2), (8, 3, 2, 3))
"""Of lines that have one colour, in their order: lengths of strokes and gaps in turn, in pixels; none: unbroken."""

PAPER, CARD, INK, FAINT, GRID = (255, 255, 255), (246, 246, 248), (35, 35, 38), (110, 110, 118), (222, 222, 227)
"""What is drawn on, the ground of a chart on a page, text, text beside it, lines of the grid."""
UNLABELLED = (138, 138, 138)
CLASSES: tuple[Color, ...] = (
    (63, 144, 218), (255, 169, 14), (189, 31, 1), (131, 45, 182), (169, 107, 89),
    (231, 99, 0), (185, 172, 112), (146, 218, 221), (113, 117, 129), (148, 164, 162),
)  # fmt: skip
"""Of up to ten classes, far apart in any colour vision: Petroff, arXiv 2107.02270; his two greys last."""
_ON_DARK = {"paper": (20, 20, 22), "card": (30, 30, 34), "ink": (236, 236, 240), "faint": (154, 154, 164),
            "line": (54, 54, 60)}  # fmt: skip
_LIGHTER = 0.4  # of the way to white, for lines on a dark page

# Anchors of viridis (matplotlib, CC0) and of a blue-white-red map, from low to high.
SEQUENTIAL: tuple[Color, ...] = ((68, 1, 84), (59, 82, 139), (33, 145, 140), (94, 201, 98), (253, 231, 37))
DIVERGING: tuple[Color, ...] = ((33, 60, 140), (140, 175, 220), (255, 255, 255), (235, 150, 130), (165, 20, 40))

TITLE, TEXT, SMALL = 15, 12, 11
"""Sizes of text, in pixels."""


def series_color(number: int) -> Color:
    """The colour of a line, by its number from 0."""
    return SERIES[number % len(SERIES)]


def series_dash(number: int) -> tuple[int, ...]:
    """How the line of that number is broken (`DASHES`): it and its colour are no other line's of the first 28."""
    return DASHES[number // len(SERIES) % len(DASHES)]


def class_color(label: int, count: int) -> Color:
    """The colour of a class, of `count` classes; grey for -1, unlabelled. Of up to ten each has its own.

    Those of lines except black, which a dark page does not show; where these are too few, `CLASSES`. More colours than
    ten are not told apart by everybody: of more classes every tenth has the same, and a shape (`marks.look`) or a name.
    """
    if label < 0:
        return UNLABELLED
    return series_color(label) if count < len(SERIES) else CLASSES[label % len(CLASSES)]


def against(color: Color) -> Color:
    """What is read on a colour, and seen beside it: ink on a light one, else white."""
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4
                        for part in (value / 255 for value in color))  # fmt: skip
    return INK if 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.3 else PAPER


def hexadecimal(color: Color) -> str:
    """`#0072b2`, for CSS and matplotlib."""
    return "#{:02x}{:02x}{:02x}".format(*color)


def number(value: float) -> str:
    """A number on an axis or beside a point: four digits, thousands as `21k`, what is very small or large as `1e-5`."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    if 1e4 <= abs(value) < 1e6:
        return f"{value / 1000:,.4g}k"
    if 1e-4 <= abs(value) < 1e4:
        return f"{value:.4g}"
    digits, _, power = f"{value:.3e}".partition("e")
    return f"{float(digits):g}e{int(power)}"


def css() -> str:
    """CSS of a page: its colours, light and dark, and for lines the classes `c0`, ... and `d1`, ... (dashes)."""
    light = {"paper": PAPER, "card": CARD, "ink": INK, "faint": FAINT, "line": GRID}
    dark = dict(_ON_DARK)
    for index, color in enumerate(SERIES):
        red, green, blue = (round(part + (255 - part) * _LIGHTER) for part in color)
        light[f"c{index}"], dark[f"c{index}"] = color, (red, green, blue)
    dark[f"c{SERIES.index(BLACK)}"] = _ON_DARK["ink"]
    rules = [
        f":root {{ color-scheme: light dark; {_variables(light)} }}",
        f"@media screen and (prefers-color-scheme: dark) {{ :root {{ {_variables(dark)} }} }}",
    ]
    for name in (f"c{index}" for index in range(len(SERIES))):
        rules.append(f"path.{name} {{ stroke: var(--{name}); }}")
        rules.append(f"circle.{name} {{ fill: var(--{name}); }}")
    for index, lengths in enumerate(DASHES):
        rules += [f"path.d{index} {{ stroke-dasharray: {' '.join(map(str, lengths))}; }}"] if lengths else []
    return "\n".join(rules)


def _variables(colors: dict[str, Color]) -> str:
    return " ".join(f"--{name}: {hexadecimal(color)};" for name, color in colors.items())


def matplotlib_settings() -> dict[str, Any]:
    """For `matplotlib.rc_context`; an SVG is the same for the same figure."""
    ink, grid = hexadecimal(INK), hexadecimal(GRID)
    return {
        "font.size": 10,
        "axes.titlesize": 11,
        "axes.titlelocation": "left",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": grid,
        "grid.linewidth": 0.7,
        "text.color": ink,
        "axes.edgecolor": ink,
        "axes.labelcolor": ink,
        "xtick.color": ink,
        "ytick.color": ink,
        "legend.fontsize": 9,
        "legend.frameon": False,
        "legend.handlelength": 3.0,
        "lines.scale_dashes": False,  # a thick line's gaps would be longer than a legend
        "svg.hashsalt": "barlowctl",
        "svg.fonttype": "path",
        "pdf.fonttype": 42,  # TrueType: journals refuse matplotlib's default, Type 3
    }
