"""Random cases for COCO's metric: ties of scores and of overlaps, crowds, classes without objects, many detections."""

from __future__ import annotations

from typing import Any

import numpy as np

SIDE = 120


def random_case(seed: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A ground truth and results for it, as JSON files of COCO hold them; boxes and outlines agree.

    Coordinates are multiples of a quarter pixel, and scores of some cases have one digit: equal overlaps and equal
    scores are common. Areas lie on both sides of 32 and 96 pixels squared, and on them.
    """
    generator = np.random.default_rng(seed)
    image_ids = (generator.permutation(40)[: generator.integers(1, 6)] + 1).tolist()
    category_ids = sorted((generator.permutation(9)[: generator.integers(1, 5)] + 1).tolist())
    digits = int(generator.choice([1, 2, 8]))
    truths: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []
    for image_id in image_ids:
        for category_id in category_ids:
            objects = int(generator.choice([0, 0, 1, 2, 4, 7]))
            boxes = [_box(generator) for _ in range(objects)]
            for box in boxes:
                crowd = bool(generator.random() < 0.15)
                truths.append({
                    "id": len(truths) + 1, "image_id": image_id, "category_id": category_id, "bbox": box,
                    "area": _area(generator, box), "iscrowd": int(crowd), "segmentation": _outline(box, crowd),
                })  # fmt: skip
            many = generator.random() < 0.06
            for _ in range(130 if many else int(generator.integers(0, 9))):
                near = boxes and generator.random() < 0.6
                box = _moved(generator, boxes[int(generator.integers(objects))]) if near else _box(generator)
                score = float(np.float32(round(float(generator.random()), digits)))
                results.append({
                    "image_id": image_id, "category_id": category_id, "bbox": box, "score": score,
                    "segmentation": _outline(box, True),
                })  # fmt: skip
    order = generator.permutation(len(results))
    images = [{"id": id, "height": SIDE, "width": SIDE, "file_name": f"{id}.jpg"} for id in image_ids]
    categories = [{"id": id, "name": f"class {id}"} for id in category_ids]
    return (
        {"images": images, "annotations": truths, "categories": categories},
        [results[number] for number in order],
    )


def _box(generator: np.random.Generator) -> list[float]:
    """Left, top, width, height; some of 32 x 32 and 96 x 96 pixels."""
    kind = generator.random()
    if kind < 0.2:
        width = height = float(generator.choice([32, 96]))
    else:
        width, height = (float(round(value * 4) / 4) for value in generator.uniform(2, 100, 2))
    left, top = (float(round(generator.uniform(0, SIDE - side) * 4) / 4) for side in (width, height))
    return [left, top, width, height]


def _moved(generator: np.random.Generator, box: list[float]) -> list[float]:
    """A box near another: the same, or up to a third of its size away."""
    if generator.random() < 0.2:
        return list(box)
    left, top, width, height = box
    shift = generator.uniform(-0.3, 0.3, 4) * np.array([width, height, width, height])
    values = np.round((np.array(box) + shift) * 4) / 4
    width, height = (max(float(side), 1.0) for side in values[2:])
    left, top = max(min(float(values[0]), SIDE - width), 0.0), max(min(float(values[1]), SIDE - height), 0.0)
    return [left, top, width, height]


def _area(generator: np.random.Generator, box: list[float]) -> float:
    """That of an outline, which is less than that of its box, or the same; or a limit between sizes."""
    kind = generator.random()
    if kind < 0.1:
        return float(generator.choice([32.0**2, 96.0**2]))
    return box[2] * box[3] * float(generator.choice([0.5, 0.8, 1.0]))


def _outline(box: list[float], as_region: bool) -> Any:
    """A rectangle with a corner cut off: a polygon, or the run lengths of whole pixels."""
    left, top, width, height = box
    right, bottom = left + width, top + height
    if not as_region:
        cut = min(width, height) / 3
        return [[left + cut, top, right, top, right, bottom, left, bottom, left, top + cut]]
    mask = np.zeros((SIDE, SIDE), dtype=bool)
    mask[round(top) : round(bottom), round(left) : round(right)] = True
    mask[round(top) : round(top + height / 4), round(left) : round(left + width / 4)] = False
    flat = mask.ravel(order="F")
    edges = np.flatnonzero(np.diff(flat)) + 1
    counts = np.diff(np.concatenate([[0], edges, [flat.size]])).tolist()
    return {"size": [SIDE, SIDE], "counts": [0, *counts] if flat[0] else counts}
