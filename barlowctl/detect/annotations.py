"""Objects in images: boxes, classes and outlines of one image, and what every reader of annotated images offers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from barlowctl.detect.image_files import Reading

Polygons = tuple[tuple[np.ndarray, ...], ...]
"""Per object its parts, each (m, 2) float32: x and y of its corners, in pixels."""


@dataclass(frozen=True)
class Annotation:
    """The objects of one image, in pixels of the original image.

    Coordinates are continuous and begin at 0 at the image's left and upper edge: pixel i covers [i, i + 1].

    Attributes:
        image_id: COCO's id; for VOC the position in the list of images.
        boxes: float32 (n, 4): left, top, right, bottom. They may reach beyond the image, as they were annotated.
        labels: int64 (n,), 0..K-1 in the order of the source's `classes`. The background is the model's own affair.
        polygons: the objects' outlines; an object without one (VOC, a crowd's run lengths) has no parts. None: the
            source has boxes only.
        areas: float64 (n,), in square pixels: of the annotation (COCO), of the box (VOC).
        difficult: bool (n,): VOC trains on such an object and does not ask for it in a test.
        crowd: bool (n,): COCO's `iscrowd`: a region of many objects, not trained on.
        rles: per object the run lengths of its region, as pycocotools takes them, or None.
    """

    image_id: int
    boxes: np.ndarray
    labels: np.ndarray
    polygons: Polygons | None
    areas: np.ndarray
    difficult: np.ndarray
    crowd: np.ndarray
    rles: tuple[dict[str, Any] | None, ...]

    def __len__(self) -> int:
        return len(self.labels)


class DetectionImages(Protocol):
    """Images with their objects, in a published layout or one's own.

    Attributes:
        path: the folder that they are in.
        split: as it was asked for.
        classes: names, in the order of the labels.
        category_ids: the classes' numbers in files of results; VOC: 1..K.
        objects: how many there are in all images.
        trainable: int64, positions of the images with an object that is no crowd: what is trained on.
        reading: how its files become pixels.
        notices: sentences on what was left out of the annotations, with counts and names; empty: nothing.
    """

    path: Path
    split: str
    classes: tuple[str, ...]
    category_ids: tuple[int, ...]
    reading: Reading
    notices: list[str]

    @property
    def objects(self) -> int: ...

    @property
    def trainable(self) -> np.ndarray: ...

    def __len__(self) -> int: ...

    def name(self, index: int) -> str:
        """What to call an image: its file's name."""

    def image_id(self, index: int) -> int:
        """As in its `Annotation`, and in files of results."""

    def file(self, index: int) -> Path:
        """The file of an image."""

    def size(self, index: int) -> tuple[int, int]:
        """Height and width, as the annotations have them: nothing is decoded."""

    def image(self, index: int) -> np.ndarray:
        """uint8 (H, W, 3), RGB.

        Raises:
            UnreadableImage: it cannot be read, or is of another size than its annotation says.
        """

    def annotation(self, index: int) -> Annotation:
        """The objects of an image."""

    def ground_truth(self) -> dict[str, Any]:
        """All objects as one COCO document: `images`, `annotations` (their ids from 1 on), `categories`."""
