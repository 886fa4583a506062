"""Detections as COCO's results: what its metric and server, and most other tools, read."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from barlowctl.detect.annotations import DetectionImages
from barlowctl.detect.detections import Detections
from barlowctl.detect.regions import compressed
from barlowctl.files import write_text


def coco_results(images: DetectionImages, predictions: Sequence[Detections]) -> Iterator[dict[str, Any]]:
    """One entry for each detection: image_id, category_id, bbox (left, top, width, height), score, segmentation.

    Args:
        predictions: of every image, in the order of positions.
    """
    for index, detections in enumerate(predictions):
        boxes = np.asarray(detections.boxes.detach().cpu(), dtype=np.float32).reshape(-1, 4)
        boxes = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)
        image_id = images.image_id(index)
        for box, score, label, region in zip(
            boxes.tolist(), detections.scores.tolist(), detections.labels.tolist(), detections.masks, strict=True
        ):
            yield {
                "image_id": image_id,
                "category_id": images.category_ids[label],
                "bbox": box,
                "score": score,
                **({} if region is None else {"segmentation": _as_text(region)}),
            }


def write_results(path: Path, images: DetectionImages, predictions: Sequence[Detections]) -> None:
    """Write them as JSON, each with the name of its image's file."""
    names = {images.image_id(index): images.name(index) for index in range(len(images))}
    entries = [{**entry, "file_name": names[entry["image_id"]]} for entry in coco_results(images, predictions)]
    write_text(path, json.dumps(entries))


def _as_text(region: dict[str, Any]) -> dict[str, Any]:
    """Run lengths whose counts are text, which JSON can hold."""
    lengths = compressed(region)
    counts = lengths["counts"]
    return {**lengths, "counts": counts.decode("ascii") if isinstance(counts, bytes) else counts}
