"""A matrix as coloured squares, drawn with Pillow; a confusion matrix in percent."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from barlowctl.plots import text
from barlowctl.plots.style import DIVERGING, INK, PAPER, SEQUENTIAL, TITLE


def colors(values: np.ndarray, low: float, high: float, *, diverging: bool = False) -> np.ndarray:
    """Values of any shape -> uint8 (..., 3), linear between `low` and `high`, clipped."""
    anchors = np.array(DIVERGING if diverging else SEQUENTIAL, dtype=np.float64)
    share = np.clip((np.asarray(values, dtype=np.float64) - low) / max(high - low, 1e-12), 0, 1)
    position = share * (len(anchors) - 1)
    left = np.minimum(position.astype(int), len(anchors) - 2)
    part = (position - left)[..., None]
    return np.rint(anchors[left] * (1 - part) + anchors[left + 1] * part).astype(np.uint8)


def heat_map(
    matrix: np.ndarray,
    *,
    low: float,
    high: float,
    title: str = "",
    names: Sequence[str] = (),
    diverging: bool = False,
    texts: np.ndarray | None = None,
) -> Image.Image:
    """A matrix as squares, row 0 on top; with `names` along both sides and `texts` (strings) in the squares."""
    rows, columns = matrix.shape
    side = max(1, min(44 if texts is not None else 24, 900 // max(rows, columns)))
    labelled = bool(names) and side >= 10
    font, large = text.font(min(13, max(9, side - 4)), names), text.font(TITLE, [title])
    fonts = [text.suited(name, font) for name in names]
    names = [text.drawable(name, own) for name, own in zip(names, fonts, strict=True)]
    title = text.drawable(title, large)
    widths = [round(own.getlength(name)) for name, own in zip(names, fonts, strict=True)]
    left = 12 + (max(widths) + 6 if labelled else 0)
    top = 12 + (22 if title else 0)
    below = left if labelled else 12
    squares = Image.fromarray(colors(matrix, low, high, diverging=diverging)).resize(
        (columns * side, rows * side), Image.Resampling.NEAREST
    )
    width = max(left + columns * side + 12, round(large.getlength(title)) + 24)
    image = Image.new("RGB", (width, top + rows * side + below), PAPER)
    image.paste(squares, (left, top))
    draw = ImageDraw.Draw(image)
    draw.text((12, 8), title, INK, large)
    if labelled:
        for index, (name, own) in enumerate(zip(names, fonts, strict=True)):
            middle = top + index * side + side // 2
            draw.text((left - 6, middle), name, INK, own, anchor="rm")
            text.draw_turned(image, name, (left + index * side + side // 2, top + rows * side + 4), own)
    if texts is not None and side >= 24:
        for row, column in np.ndindex(rows, columns):
            dark = float(colors(matrix[row, column], low, high, diverging=diverging).mean()) < 120
            centre = (left + column * side + side // 2, top + row * side + side // 2)
            draw.text(centre, str(texts[row, column]), PAPER if dark else INK, font, anchor="mm")
    return image


def confusion(matrix: np.ndarray, names: Sequence[str], title: str) -> Image.Image:
    """Shares of each true class (row), in percent, with numbers where they fit."""
    totals = np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    percent = 100.0 * matrix / totals
    texts = None
    if len(matrix) <= 20:
        texts = np.array([[f"{value:.0f}" if round(value) else "" for value in row] for row in percent])
    return heat_map(percent, low=0, high=100, title=title, names=[name[:24] for name in names], texts=texts)
