"""Pascal VOC's average precision as detectron2's `PascalVOCDetectionEvaluator` computes it, with all its rounding.

What distinguishes it from others, and what published numbers of VOC07+12 have: boxes include their last pixel; a
detection is compared with the object that it overlaps most, difficult ones too, and has no second choice; an overlap
must be larger than the limit, not equal; difficult objects count neither way; scores are rounded to three decimals and
corners to one; AP is the mean over eleven recalls (2007), which are `numpy.arange(0, 1.1, 0.1)`: 0.3, 0.6 and 0.7 come
out one bit too large, so that a recall of exactly 0.3 does not reach its point.

Deviation: among equal scores the order is that of the images; detectron2's sort leaves it to NumPy and the processor.
Deviation: a class without objects to be detected has no AP, and the mean leaves it out; there it would be 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from barlowctl.detect.annotations import Annotation, DetectionImages
from barlowctl.detect.detections import Detections
from barlowctl.detect.scores import DetectionScores

IOU_PERCENT = tuple(range(50, 100, 5))
RECALLS = np.arange(0.0, 1.1, 0.1)


class Matches(NamedTuple):
    """The detections of a class over all images, best first, and the object that each overlaps most.

    overlaps: float64 (d,), minus infinity where the image has no object of the class.
    objects: int64 (d,), the object's number over all images, -1 for none. difficult: bool (d,), whether it is.
    positives: number of objects that are not difficult.
    """

    overlaps: np.ndarray
    objects: np.ndarray
    difficult: np.ndarray
    positives: int


def evaluate(
    images: DetectionImages, predictions: Sequence[Detections], *, eleven_points: bool = True
) -> DetectionScores:
    """AP over IoU .50:.05:.95, AP50 and AP75 of boxes.

    Args:
        predictions: of every image, in the order of positions.
        eleven_points: the measure of 2007; False: the area below the curve, as from 2010 on.
    """
    annotations = [images.annotation(index) for index in range(len(images))]
    rounded = [_rounded(detections) for detections in predictions]
    table = np.full((len(images.classes), len(IOU_PERCENT)), np.nan)
    for label in range(len(images.classes)):
        matches = match(annotations, rounded, label)
        if matches.positives:
            for column, percent in enumerate(IOU_PERCENT):
                recall, precision = curve(matches, percent / 100.0)
                table[label, column] = 100 * average_precision(recall, precision, eleven_points=eleven_points)
    has_objects = ~np.isnan(table[:, 0])
    means = table[has_objects].mean(axis=0) if has_objects.any() else np.full(len(IOU_PERCENT), np.nan)
    per_class = {name: _named(row) for name, row in zip(images.classes, table, strict=True)}
    return DetectionScores(box=_named(means), mask=None, per_class=per_class)


def _named(row: np.ndarray) -> dict[str, float]:
    return {
        "AP": float(row.mean()),
        "AP50": float(row[IOU_PERCENT.index(50)]),
        "AP75": float(row[IOU_PERCENT.index(75)]),
    }


class _Rounded(NamedTuple):
    """Detections as detectron2 writes them into a text file and reads them: 1-based float64 boxes (m, 4)."""

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray


def _rounded(detections: Detections) -> _Rounded:
    boxes = np.asarray(detections.boxes.detach().cpu(), dtype=np.float32).reshape(-1, 4).copy()
    boxes[:, :2] += 1
    scores = np.asarray(detections.scores.detach().cpu(), dtype=np.float32)
    return _Rounded(
        np.array([float(f"{value:.1f}") for value in boxes.ravel().tolist()]).reshape(-1, 4),
        np.array([float(f"{value:.3f}") for value in scores.tolist()]),
        np.asarray(detections.labels.detach().cpu(), dtype=np.int64),
    )


def match(annotations: Sequence[Annotation], predictions: Sequence[_Rounded], label: int) -> Matches:
    """The detections of a class, and what each overlaps most."""
    scores, overlaps, objects, difficult = [], [], [], []
    first, positives = 0, 0
    for annotation, detections in zip(annotations, predictions, strict=True):
        of_class = annotation.labels == label
        truths = annotation.boxes[of_class].astype(np.float64) + np.array([1.0, 1.0, 0.0, 0.0])
        is_difficult = annotation.difficult[of_class]
        positives += int((~is_difficult).sum())
        rows = detections.labels == label
        count = int(rows.sum())
        if count:
            scores.append(detections.scores[rows])
            if len(truths):
                overlap = inclusive_iou(detections.boxes[rows], truths)
                best = overlap.argmax(axis=1)
                overlaps.append(overlap.max(axis=1))
                objects.append(first + best)
                difficult.append(is_difficult[best])
            else:
                overlaps.append(np.full(count, -np.inf))
                objects.append(np.full(count, -1))
                difficult.append(np.zeros(count, dtype=bool))
        first += len(truths)
    if not scores:
        return Matches(np.empty(0), np.empty(0, np.int64), np.empty(0, bool), positives)
    order = np.argsort(-np.concatenate(scores), kind="stable")
    return Matches(
        np.concatenate(overlaps)[order], np.concatenate(objects)[order], np.concatenate(difficult)[order], positives
    )


def inclusive_iou(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Intersection over union, (n, m), of boxes of whole pixels whose right and bottom pixels are inside."""
    sides = np.minimum(boxes[:, None, 2:], others[None, :, 2:]) - np.maximum(boxes[:, None, :2], others[None, :, :2])
    both = np.maximum(sides + 1.0, 0.0).prod(axis=2)
    areas, other_areas = ((array[:, 2:] - array[:, :2] + 1.0).prod(axis=1) for array in (boxes, others))
    return both / (areas[:, None] + other_areas[None, :] - both)


def curve(matches: Matches, limit: float) -> tuple[np.ndarray, np.ndarray]:
    """Recall and precision after each detection, best first. The first that hits an object has it."""
    hits = matches.overlaps > limit
    counted = np.flatnonzero(hits & ~matches.difficult)
    true = np.zeros(len(hits))
    true[counted[np.unique(matches.objects[counted], return_index=True)[1]]] = 1.0
    false = np.where(hits & matches.difficult, 0.0, 1.0 - true)
    true, false = true.cumsum(), false.cumsum()
    return true / float(matches.positives), true / np.maximum(true + false, np.finfo(np.float64).eps)


def average_precision(recall: np.ndarray, precision: np.ndarray, *, eleven_points: bool) -> float:
    """In [0, 1]: the mean over eleven recalls of the best precision from there on, or the area below that curve."""
    if eleven_points:
        total = 0.0
        for point in RECALLS:
            reached = recall >= point
            total += (precision[reached].max() if reached.any() else 0.0) / 11.0
        return float(total)
    recall, precision = np.concatenate([[0.0], recall, [1.0]]), np.concatenate([[0.0], precision, [0.0]])
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    steps = np.flatnonzero(recall[1:] != recall[:-1])
    return float(((recall[steps + 1] - recall[steps]) * envelope[steps + 1]).sum())
