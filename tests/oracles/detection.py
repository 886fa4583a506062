"""Parts of a detector from their formulas, in float64, by loops. Knows nothing of our code, nor of torchvision's.

Sources: Faster R-CNN (arXiv 1506.01497), Mask R-CNN (1703.06870), and detectron2's code for what these leave open.
Boxes are left, top, right, bottom; pixel i covers [i, i + 1].
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np


def iou(a: np.ndarray, b: np.ndarray) -> float:
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    both = width * height
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)


def anchors(rows: int, columns: int, stride: int, sizes: Sequence[float], ratios: Sequence[float]) -> np.ndarray:
    """Row by row, cell by cell, size by size, ratio (height / width) by ratio; of area size squared."""
    boxes = []
    for y in range(rows):
        for x in range(columns):
            for size in sizes:
                for ratio in ratios:
                    width, height = size / math.sqrt(ratio), size * math.sqrt(ratio)
                    centre_x, centre_y = x * stride, y * stride
                    boxes.append(
                        [centre_x - width / 2, centre_y - height / 2, centre_x + width / 2, centre_y + height / 2]
                    )
    return np.array(boxes)


def match(
    objects: np.ndarray, boxes: np.ndarray, *, below: float, above: float, low_quality: bool
) -> tuple[list[int], list[int]]:
    """For each box 1 (object), 0 (background) or -1 (neither), and the object that it overlaps most (the first)."""
    overlaps = [[iou(each, box) for box in boxes] for each in objects]
    labels, best = [], []
    for number in range(len(boxes)):
        column = [row[number] for row in overlaps]
        best.append(column.index(max(column)))
        labels.append(1 if max(column) >= above else 0 if max(column) < below else -1)
        if low_quality and any(row[number] == max(row) for row in overlaps):
            labels[-1] = 1
    return labels, best


def encode(
    target: np.ndarray, box: np.ndarray, weights: Sequence[float] = (1.0, 1.0, 1.0, 1.0)
) -> tuple[float, float, float, float]:
    """Faster R-CNN, equation 2, times weights."""
    width, height, target_width, target_height = (
        box[2] - box[0], box[3] - box[1], target[2] - target[0], target[3] - target[1],
    )  # fmt: skip
    return (
        weights[0] * ((target[0] + target[2]) - (box[0] + box[2])) / 2 / width,
        weights[1] * ((target[1] + target[3]) - (box[1] + box[3])) / 2 / height,
        weights[2] * math.log(target_width / width),
        weights[3] * math.log(target_height / height),
    )


def binary_cross_entropy(logit: float, label: float) -> float:
    probability = 1 / (1 + math.exp(-logit))
    return -label * math.log(probability) - (1 - label) * math.log(1 - probability)


def cross_entropy(logits: np.ndarray, label: int) -> float:
    return math.log(sum(math.exp(value) for value in logits)) - float(logits[label])


def proposal_losses(
    logits: np.ndarray, deltas: np.ndarray, boxes: np.ndarray, objects: np.ndarray, divisor: int
) -> tuple[float, float]:
    """Of one image all of whose anchors are sampled: cross-entropy, and L1 of those on objects, both by `divisor`."""
    labels, best = match(objects, boxes, below=0.3, above=0.7, low_quality=True)
    objectness = sum(binary_cross_entropy(logits[i], label) for i, label in enumerate(labels) if label >= 0)
    box = sum(
        abs(value - target)
        for i, label in enumerate(labels)
        if label == 1
        for value, target in zip(deltas[i], encode(objects[best[i]], boxes[i]), strict=True)
    )
    return objectness / divisor, box / divisor


def head_losses(
    logits: np.ndarray, deltas: np.ndarray, boxes: np.ndarray, objects: np.ndarray, classes: Sequence[int]
) -> tuple[float, float]:
    """Of one image all of whose RoIs are sampled: logits (R, 1 + K) with the background first, deltas (R, K, 4)."""
    labels, best = match(objects, boxes, below=0.5, above=0.5, low_quality=False)
    classification, box = 0.0, 0.0
    for i, label in enumerate(labels):
        own = classes[best[i]]
        classification += cross_entropy(logits[i], own + 1 if label == 1 else 0)
        if label == 1:
            target = encode(objects[best[i]], boxes[i], (10.0, 10.0, 5.0, 5.0))
            box += sum(abs(value - delta) for value, delta in zip(deltas[i, own], target, strict=True))
    return classification / len(boxes), box / len(boxes)


def bilinear(values: np.ndarray, y: float, x: float) -> float:
    """Of an array whose values sit at whole numbers; 0 outside."""
    total = 0.0
    for row in (math.floor(y), math.floor(y) + 1):
        for column in (math.floor(x), math.floor(x) + 1):
            if 0 <= row < values.shape[0] and 0 <= column < values.shape[1]:
                total += (1 - abs(y - row)) * (1 - abs(x - column)) * values[row, column]
    return total


def roi_align(values: np.ndarray, box: Sequence[float], stride: int, size: int) -> np.ndarray:
    """Of one map; for boxes whose samples lie within it. ceil(bin) samples a side, cell centres at one half."""
    left, top, right, bottom = (value / stride - 0.5 for value in box)
    height, width = (bottom - top) / size, (right - left) / size
    samples_y, samples_x = math.ceil(height), math.ceil(width)
    pooled = np.zeros((size, size))
    for row in range(size):
        for column in range(size):
            pooled[row, column] = np.mean(
                [
                    bilinear(
                        values,
                        top + height * (row + (i + 0.5) / samples_y),
                        left + width * (column + (j + 0.5) / samples_x),
                    )
                    for i in range(samples_y)
                    for j in range(samples_x)
                ]
            )
    return pooled


def inside(corners: np.ndarray, x: float, y: float) -> bool:
    """Whether a point lies in a polygon, by crossings of a ray to the right."""
    crossings = 0
    for (x1, y1), (x2, y2) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        if (y1 > y) != (y2 > y) and x < x1 + (y - y1) / (y2 - y1) * (x2 - x1):
            crossings += 1
    return crossings % 2 == 1


def rasterized(parts: Sequence[np.ndarray], box: Sequence[float], size: int) -> np.ndarray:
    """Cells of a box whose centre lies in one of the polygons."""
    mask = np.zeros((size, size), dtype=np.uint8)
    for row in range(size):
        for column in range(size):
            x = box[0] + (column + 0.5) / size * (box[2] - box[0])
            y = box[1] + (row + 0.5) / size * (box[3] - box[1])
            mask[row, column] = any(inside(part, x, y) for part in parts)
    return mask


def pasted(mask: np.ndarray, box: Sequence[float], height: int, width: int) -> np.ndarray:
    """The bilinear value of a mask stretched over a box, at each pixel's centre; not yet compared with 0.5."""
    size = len(mask)
    values = np.zeros((height, width))
    for row in range(height):
        for column in range(width):
            y = (row + 0.5 - box[1]) / (box[3] - box[1]) * size - 0.5
            x = (column + 0.5 - box[0]) / (box[2] - box[0]) * size - 0.5
            values[row, column] = bilinear(mask, y, x)
    return values
