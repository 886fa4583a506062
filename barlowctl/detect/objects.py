"""The objects of all images of a split, in flat arrays: a million of them take megabytes, and threads share them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np

from barlowctl.detect.annotations import Annotation, Polygons


class Object(NamedTuple):
    """One object as a reader found it.

    box: left, top, right, bottom, in pixels from 0 on.    outline: the parts of its polygon, each (m, 2) float32.
    The others as in `Annotation`.
    """

    box: tuple[float, float, float, float]
    label: int
    area: float
    difficult: bool = False
    crowd: bool = False
    outline: Sequence[np.ndarray] = ()
    rle: dict[str, Any] | None = None


class ObjectTable:
    """Objects by image.

    Args:
        images: the objects of each image, in its annotation's order.
        outlined: whether the source has outlines; else polygons are None.
    """

    def __init__(self, images: Sequence[Sequence[Object]], *, outlined: bool) -> None:
        objects = [entry for image in images for entry in image]
        parts = [part for entry in objects for part in entry.outline]
        self.starts = _starts([len(image) for image in images])
        self.boxes = np.array([entry.box for entry in objects], dtype=np.float32).reshape(-1, 4)
        self.labels = np.array([entry.label for entry in objects], dtype=np.int64)
        self.areas = np.array([entry.area for entry in objects], dtype=np.float64)
        self.difficult = np.array([entry.difficult for entry in objects], dtype=bool)
        self.crowd = np.array([entry.crowd for entry in objects], dtype=bool)
        self.rles = {number: entry.rle for number, entry in enumerate(objects) if entry.rle is not None}
        self.outlined = outlined
        self._part_starts = _starts([len(entry.outline) for entry in objects])
        self._corner_starts = _starts([len(part) for part in parts])
        self._corners = np.concatenate(parts).astype(np.float32) if parts else np.empty((0, 2), np.float32)

    def annotation(self, index: int, image_id: int) -> Annotation:
        """The objects of one image."""
        low, high = int(self.starts[index]), int(self.starts[index + 1])
        return Annotation(
            image_id=image_id,
            boxes=self.boxes[low:high],
            labels=self.labels[low:high],
            polygons=self._polygons(low, high) if self.outlined else None,
            areas=self.areas[low:high],
            difficult=self.difficult[low:high],
            crowd=self.crowd[low:high],
            rles=tuple(self.rles.get(number) for number in range(low, high)),
        )

    def _polygons(self, low: int, high: int) -> Polygons:
        return tuple(
            tuple(
                self._corners[self._corner_starts[part] : self._corner_starts[part + 1]]
                for part in range(self._part_starts[number], self._part_starts[number + 1])
            )
            for number in range(low, high)
        )

    def trainable(self) -> np.ndarray:
        """bool, one per image: whether it has an object that is no crowd."""
        counts = np.concatenate([[0], np.cumsum(~self.crowd)])
        return counts[self.starts[1:]] > counts[self.starts[:-1]]


def _starts(lengths: Sequence[int]) -> np.ndarray:
    return np.fromiter(accumulate(lengths, initial=0), dtype=np.int64, count=len(lengths) + 1)
