"""Average precision of one class of Pascal VOC, one detection after another, from the devkit's VOCevaldet.

With detectron2's rounding of detections: scores to three decimals, corners to one.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Truth(NamedTuple):
    """box: 1-based corners, the last pixel inside."""

    image: int
    box: tuple[float, float, float, float]
    difficult: bool


class Detection(NamedTuple):
    """box: 0-based, continuous corners."""

    image: int
    box: tuple[float, float, float, float]
    score: float


def inclusive_overlap(first: tuple[float, ...], second: tuple[float, ...]) -> float:
    width = min(first[2], second[2]) - max(first[0], second[0]) + 1
    height = min(first[3], second[3]) - max(first[1], second[1]) + 1
    if width <= 0 or height <= 0:
        return 0.0
    areas = [(box[2] - box[0] + 1) * (box[3] - box[1] + 1) for box in (first, second)]
    return width * height / (areas[0] + areas[1] - width * height)


def marks(truths: list[Truth], detections: list[Detection], limit: float) -> list[int]:
    """For each detection, best first: 1 a hit, 0 a false one, -1 neither (it hit a difficult object)."""
    rounded = []
    for detection in detections:
        left, top, right, bottom = (np.float32(value) for value in detection.box)
        corners = (left + np.float32(1), top + np.float32(1), right, bottom)
        box = tuple(float(f"{float(value):.1f}") for value in corners)
        rounded.append((detection.image, box, float(f"{float(np.float32(detection.score)):.3f}")))
    rounded.sort(key=lambda entry: -entry[2])
    taken: set[int] = set()
    result = []
    for image, box, _ in rounded:
        best, best_overlap = None, float("-inf")
        for number, truth in enumerate(truths):
            if truth.image == image and (overlap := inclusive_overlap(box, truth.box)) > best_overlap:
                best, best_overlap = number, overlap
        if best is None or not best_overlap > limit:
            result.append(0)
        elif truths[best].difficult:
            result.append(-1)
        elif best in taken:
            result.append(0)
        else:
            taken.add(best)
            result.append(1)
    return result


def average_precision(truths: list[Truth], detections: list[Detection], limit: float, *, eleven_points: bool) -> float:
    positives = sum(not truth.difficult for truth in truths)
    points, hits, counted = [(0.0, 0.0)], 0, 0
    for mark in marks(truths, detections, limit):
        hits += mark == 1
        counted += mark >= 0
        points.append((hits / positives, hits / counted if counted else 0.0))
    if eleven_points:  # 0.1 added up as NumPy does: start + i * step
        recalls = [0.0 + number * 0.1 for number in range(11)]
        return sum(max((p for r, p in points[1:] if r >= recall), default=0.0) for recall in recalls) / 11
    total = 0.0
    for position in range(1, len(points)):
        step = points[position][0] - points[position - 1][0]
        total += step * max(p for _, p in points[position:])
    return total
