"""A 2-D map of points, drawn with Pillow."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from barlowctl.plots.style import INK, PAPER, TEXT, TITLE, class_color
from barlowctl.plots.text import drawable, font


def scatter(
    points: np.ndarray, labels: np.ndarray, names: Sequence[str], title: str, *, side: int = 900
) -> Image.Image:
    """Points (N, 2) coloured by label, with a legend of at most 30 classes. Drawn at twice its size, then halved."""
    scale, margin = 2, 30
    legend = 190 if names and len(names) <= 30 else 0
    big = Image.new("RGB", ((side + legend) * scale, (side + 30) * scale), PAPER)
    draw = ImageDraw.Draw(big)
    pixels = to_pixels(points, side, margin) * scale
    radius = scale * max(1.2, min(4.0, 120 / np.sqrt(max(len(points), 1))))
    for index in np.random.Generator(np.random.Philox(key=0)).permutation(len(points)):
        x, y = pixels[index]
        y += 30 * scale
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), class_color(int(labels[index]), len(names)))
    large = font(TITLE * scale, [title])
    draw.text((margin * scale, 10 * scale), drawable(title, large), INK, large)
    if legend:
        small = font(TEXT * scale, names)
        for label, name in enumerate(names):
            y = (50 + 20 * label) * scale
            draw.ellipse(((side + 4) * scale, y, (side + 14) * scale, y + 10 * scale), class_color(label, len(names)))
            draw.text(((side + 20) * scale, y + 5 * scale), drawable(name[:24], small), INK, small, anchor="lm")
    return big.resize((big.width // scale, big.height // scale), Image.Resampling.LANCZOS)


def to_pixels(points: np.ndarray, side: int, margin: int) -> np.ndarray:
    """Points (N, 2) moved and scaled into a square of `side` pixels with a margin; one scale for both axes."""
    low, high = points.min(axis=0), points.max(axis=0)
    span = float(max((high - low).max(), 1e-12))
    middle = (low + high) / 2
    inside: np.ndarray = (points - middle) / span * (side - 2 * margin) + side / 2
    return inside
