"""Marks of classes on a map: ten colours in six shapes, and where a class's name is written among its points."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from barlowctl.plots.style import CLASSES, Color, class_color

LISTED = 30
"""Classes: the names of more are written among their points, where a list of marks would have to be searched."""
_PLUS = ((-0.4, -1.3), (0.4, -1.3), (0.4, -0.4), (1.3, -0.4), (1.3, 0.4), (0.4, 0.4), (0.4, 1.3), (-0.4, 1.3),
         (-0.4, 0.4), (-1.3, 0.4), (-1.3, -0.4), (-0.4, -0.4))  # fmt: skip
CORNERS: tuple[tuple[tuple[float, float], ...], ...] = (
    (), ((0.0, -1.4), (1.3, 0.9), (-1.3, 0.9)), _PLUS, ((-0.55, -1.45), (0.55, -1.45), (0.55, 1.45), (-0.55, 1.45)),
    ((0.0, 1.4), (1.3, -0.9), (-1.3, -0.9)),
    tuple((round(0.7 * (x - y), 3), round(0.7 * (x + y), 3)) for x, y in _PLUS),
)  # fmt: skip
"""Of a shape, in radii from its middle; none: a disc. Disc, triangle, cross, bar, triangle upside down, X."""

Box = tuple[float, float, float, float]


def look(label: int, count: int) -> tuple[Color, int]:
    """The colour and the shape (a number of `CORNERS`) of a class, of `count`.

    Up to 60 classes no other has both; from there on marks come again, and names tell them apart.
    """
    color = class_color(label, count)
    return color, 0 if label < 0 or count <= len(CLASSES) else label // len(CLASSES) % len(CORNERS)


def middles(points: np.ndarray, labels: np.ndarray) -> dict[int, tuple[float, float]]:
    """The median of the points (N, 2) of each class that has any: the largest class first. -1 (unlabelled) is none."""
    classes, sizes = np.unique(labels[labels >= 0], return_counts=True)
    order = sorted(zip(classes.tolist(), sizes.tolist(), strict=True), key=lambda pair: (-pair[1], pair[0]))
    medians = {label: np.median(points[labels == label], axis=0) for label, _ in order}
    return {label: (float(x), float(y)) for label, (x, y) in medians.items()}


def places(
    names: Iterable[tuple[tuple[float, float], float]], height: float, size: tuple[float, float]
) -> list[Box | None]:
    """Where names go, so that none lies on another: at its middle, or up to three lines above or below.

    Args:
        names: (middle, width) of each in pixels, the more important ones first. height: of a line.
        size: width and height of the picture, which names stay within.

    Returns:
        Left, top, right, bottom; None where there is no room.
    """
    taken: list[Box] = []
    boxes: list[Box | None] = []
    for (x, y), width in names:
        left = min(max(x - width / 2, 0.0), max(size[0] - width, 0.0))
        candidates = []
        for lines in (0, -1, 1, -2, 2, -3, 3):
            top = min(max(y + (lines - 0.5) * height, 0.0), size[1] - height)
            candidates.append((left, top, left + width, top + height))
        box = next((box for box in candidates if not any(overlap(box, other) for other in taken)), None)
        boxes.append(box)
        taken += [box] if box is not None else []
    return boxes


def overlap(box: Box, other: Box) -> bool:
    """Whether two boxes have a pixel in common."""
    return box[0] < other[2] and other[0] < box[2] and box[1] < other[3] and other[1] < box[3]


def unique_colors(labels: Sequence[int], count: int) -> dict[int, Color]:
    """A colour for each class in one picture, of `count` that there are: its own (`class_color`) where that is free.

    Of more than ten classes several have one colour; where two of them are in a picture, the later one takes the next
    that is free. Of more than ten classes in a picture some share a colour.
    """
    colors: dict[int, Color] = {}
    for label in sorted(set(labels)):
        own = class_color(label, count)
        if own in colors.values():
            own = next((color for color in CLASSES if color not in colors.values()), own)
        colors[label] = own
    return colors
