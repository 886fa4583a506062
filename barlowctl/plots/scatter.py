"""A 2-D map of points, drawn with Pillow."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from barlowctl.plots.style import CLASSES, INK, PAPER, TEXT, TITLE, Color, class_color
from barlowctl.plots.text import drawable, font

_CROSS = ((-0.4, -1.3), (0.4, -1.3), (0.4, -0.4), (1.3, -0.4), (1.3, 0.4), (0.4, 0.4), (0.4, 1.3), (-0.4, 1.3),
          (-0.4, 0.4), (-1.3, 0.4), (-1.3, -0.4), (-0.4, -0.4))  # fmt: skip
CORNERS: tuple[tuple[tuple[float, float], ...], ...] = ((), ((0.0, -1.4), (1.3, 0.9), (-1.3, 0.9)), _CROSS)
"""Of a shape, in radii from its middle; none: a disc."""


def scatter(
    points: np.ndarray, labels: np.ndarray, names: Sequence[str], title: str, *, side: int = 900
) -> Image.Image:
    """Points (N, 2) with the mark of their label, and a legend of at most 30 classes.

    Of 11 to 30 classes a mark is one of ten colours and three shapes. Drawn at twice its size, then halved.
    """
    scale, margin = 2, 30
    legend = 190 if names and len(names) <= 30 else 0
    big = Image.new("RGB", ((side + legend) * scale, (side + 30) * scale), PAPER)
    draw = ImageDraw.Draw(big)
    pixels = to_pixels(points, side, margin) * scale
    radius = scale * max(1.2, min(4.0, 120 / np.sqrt(max(len(points), 1))))
    for index in np.random.Generator(np.random.Philox(key=0)).permutation(len(points)):
        x, y = pixels[index]
        _mark(draw, x, y + 30 * scale, radius, int(labels[index]), len(names))
    large = font(TITLE * scale, [title])
    draw.text((margin * scale, 10 * scale), drawable(title, large), INK, large)
    if legend:
        small = font(TEXT * scale, names)
        for label, name in enumerate(names):
            y = (50 + 20 * label) * scale
            _mark(draw, (side + 9) * scale, y + 5 * scale, 5 * scale, label, len(names))
            draw.text(((side + 20) * scale, y + 5 * scale), drawable(name[:24], small), INK, small, anchor="lm")
    return big.resize((big.width // scale, big.height // scale), Image.Resampling.LANCZOS)


def look(label: int, count: int) -> tuple[Color, int]:
    """The colour and the shape (0: disc, 1: triangle, 2: cross) of a class, of `count`; no other class has both."""
    ten = len(CLASSES)
    if label < 0 or not ten < count <= len(CORNERS) * ten:
        return class_color(label, count), 0
    return CLASSES[label % ten], label // ten


def _mark(draw: ImageDraw.ImageDraw, x: float, y: float, radius: float, label: int, count: int) -> None:
    """The mark of a class around a place; shapes of about the same area."""
    color, shape = look(label, count)
    if corners := CORNERS[shape]:
        draw.polygon([(x + radius * across, y + radius * down) for across, down in corners], color)
    else:
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), color)


def to_pixels(points: np.ndarray, side: int, margin: int) -> np.ndarray:
    """Points (N, 2) moved and scaled into a square of `side` pixels with a margin; one scale for both axes."""
    low, high = points.min(axis=0), points.max(axis=0)
    span = float(max((high - low).max(), 1e-12))
    middle = (low + high) / 2
    inside: np.ndarray = (points - middle) / span * (side - 2 * margin) + side / 2
    return inside
