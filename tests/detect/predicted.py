"""Images that are only their annotations, and detections of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from barlowctl.detect.annotations import Annotation, DetectionImages
from barlowctl.detect.detections import Detections
from barlowctl.detect.regions import region_of_outline

Box = tuple[float, float, float, float]


class Annotated:
    """What the metrics need of `DetectionImages`."""

    def __init__(self, annotations: Sequence[Annotation], classes: Sequence[str], truth: dict[str, Any] | None = None):
        self._annotations, self._truth = annotations, truth
        self.classes, self.category_ids = tuple(classes), tuple(range(1, len(classes) + 1))
        if truth is not None:
            self.category_ids = tuple(entry["id"] for entry in truth["categories"])

    def __len__(self) -> int:
        return len(self._annotations)

    def annotation(self, index: int) -> Annotation:
        return self._annotations[index]

    def image_id(self, index: int) -> int:
        return self._annotations[index].image_id

    def ground_truth(self) -> dict[str, Any]:
        assert self._truth is not None
        return self._truth


def objects(
    boxes: Sequence[Box], labels: Sequence[int], difficult: Sequence[bool] | None = None, image_id: int = 0
) -> Annotation:
    count = len(boxes)
    return Annotation(
        image_id=image_id,
        boxes=np.array(boxes, dtype=np.float32).reshape(-1, 4),
        labels=np.array(labels, dtype=np.int64),
        polygons=None,
        areas=np.zeros(count),
        difficult=np.array(difficult if difficult is not None else [False] * count, dtype=bool),
        crowd=np.zeros(count, dtype=bool),
        rles=(None,) * count,
    )


def detected(
    boxes: Sequence[Any], scores: Sequence[float], labels: Sequence[int], masks: list[Any] | None = None
) -> Detections:
    return Detections(
        torch.tensor(np.array(boxes, dtype=np.float32).reshape(-1, 4)),
        torch.tensor(scores, dtype=torch.float32),
        torch.tensor(labels, dtype=torch.int64),
        masks if masks is not None else [None] * len(scores),
    )


def oracle(images: DetectionImages, shift: float = 0.0) -> list[Detections]:
    """The objects that are no crowds as detections, each moved to the right by a share of its width."""
    predictions = []
    for index in range(len(images)):
        annotation = images.annotation(index)
        numbers = np.flatnonzero(~annotation.crowd)
        boxes = annotation.boxes[numbers].copy()
        boxes[:, [0, 2]] += shift * (boxes[:, 2] - boxes[:, 0])[:, None]
        masks = None
        if annotation.polygons is not None:
            masks = [region_of_outline(annotation.polygons[number], *images.size(index)) for number in numbers]
        scores = np.linspace(0.9, 0.5, len(numbers)).tolist()
        predictions.append(detected(boxes, scores, annotation.labels[numbers].tolist(), masks))
    return predictions
