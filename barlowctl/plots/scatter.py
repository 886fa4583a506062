"""A 2-D map of points, drawn with Pillow."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from barlowctl.amounts import counted
from barlowctl.plots.marks import CORNERS, LISTED, look, middles, places
from barlowctl.plots.style import CLASSES, FAINT, INK, PAPER, SMALL, TEXT, TITLE, Color
from barlowctl.plots.text import drawable, font, shortened, suited

_SCALE = 2  # drawn larger and reduced: smooth marks
_MARGIN, _TOP = 30, 30
_NAME = 130  # pixels that a name on the map may take


def scatter(
    points: np.ndarray, labels: np.ndarray, names: Sequence[str], title: str, *, side: int = 900
) -> Image.Image:
    """Points (N, 2) with the mark of their label, and a legend of at most 30 classes.

    Of 11 to 60 classes a mark is one of ten colours and six shapes. Of more than 30 the names are written on the map,
    the largest classes' first, as far as there is room; what is left out is said.
    """
    count, listed = len(names), 0 < len(names) <= LISTED
    entries = [*range(count), *([-1] if (labels < 0).any() else [])] if listed else []
    letters = font(TEXT * _SCALE, names)
    fonts = {label: suited(names[label], letters) if label >= 0 else letters for label in entries}
    words = {
        label: shortened(names[label] if label >= 0 else "unlabelled", own, 220 * _SCALE)
        for label, own in fonts.items()
    }
    widest = max((fonts[label].getlength(word) for label, word in words.items()), default=0) / _SCALE
    legend = max(100, round(widest) + 34) if listed else 0
    big = Image.new("RGB", ((side + legend) * _SCALE, (side + _TOP) * _SCALE), PAPER)
    draw = ImageDraw.Draw(big)
    pixels = to_pixels(points, side, _MARGIN) * _SCALE + np.array([0, _TOP * _SCALE])
    _points(draw, pixels, labels, count)
    large = font(TITLE * _SCALE, [title])
    draw.text((_MARGIN * _SCALE, 10 * _SCALE), drawable(title, large), INK, large)
    for place, (label, word) in enumerate(words.items()):
        y = (55 + 20 * place) * _SCALE
        _mark(draw, (side + 9) * _SCALE, y, 5 * _SCALE, look(label, count))
        draw.text(((side + 20) * _SCALE, y), word, INK, fonts[label], anchor="lm")
    if count > LISTED:
        _names(draw, pixels, labels, names, big.size)
    return big.resize((big.width // _SCALE, big.height // _SCALE), Image.Resampling.LANCZOS)


def _points(draw: ImageDraw.ImageDraw, pixels: np.ndarray, labels: np.ndarray, count: int) -> None:
    """Every point, in an order that puts no class over another; those without a label are smaller and beneath."""
    smallest = 1.2 if count <= len(CLASSES) else 2.0  # shapes need some pixels
    radius = _SCALE * max(smallest, min(4.0, 120 / np.sqrt(max(len(pixels), 1))))
    order = np.random.Generator(np.random.Philox(key=0)).permutation(len(pixels))
    for index in sorted(order, key=lambda index: labels[index] >= 0) if count else order:
        label = int(labels[index])
        x, y = pixels[index]
        _mark(draw, x, y, radius if label >= 0 or not count else 0.7 * radius, look(label, count))


def _names(
    draw: ImageDraw.ImageDraw, pixels: np.ndarray, labels: np.ndarray, names: Sequence[str], size: tuple[int, int]
) -> None:
    letters = font(SMALL * _SCALE, names)
    where = middles(pixels, labels)
    fonts = {label: suited(names[label], letters) for label in where}
    words = {label: shortened(names[label], own, _NAME * _SCALE) for label, own in fonts.items()}
    named = [(where[label], own.getlength(words[label]) + 4 * _SCALE) for label, own in fonts.items()]
    boxes = places(named, (SMALL + 2) * _SCALE, size)
    for word, own, box in zip(words.values(), fonts.values(), boxes, strict=True):
        if box is not None:
            middle = ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2)
            draw.text(middle, word, INK, own, anchor="mm", stroke_width=2 * _SCALE, stroke_fill=PAPER)
    notes = []
    if left_out := boxes.count(None):
        notes.append(
            f"names of {len(boxes) - left_out} of {counted(len(boxes), 'class', 'classes')}: others have no room"
        )
    if unlabelled := int((labels < 0).sum()):
        notes.append(f"small and grey: {counted(unlabelled, 'unlabelled image')}")
    corner = (_MARGIN * _SCALE, size[1] - 12 * _SCALE)
    draw.text(corner, "; ".join(notes), FAINT, font(SMALL * _SCALE), anchor="lm")


def _mark(draw: ImageDraw.ImageDraw, x: float, y: float, radius: float, mark: tuple[Color, int]) -> None:
    """The mark of a class around a place; shapes of about the same area."""
    color, shape = mark
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
