"""COCO's metric of boxes and of outlines, computed by pycocotools: the reference that published numbers come from."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from barlowctl.detect.annotations import DetectionImages
from barlowctl.detect.coco_results import coco_results
from barlowctl.detect.detections import Detections
from barlowctl.detect.regions import pycocotools_mask
from barlowctl.detect.scores import DetectionScores

NAMES = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
"""As COCOeval.summarize has them: AR by the number of detections in an image; s, m, l by the area of the object."""
IOU_50, IOU_75 = 0, 5  # among .50:.05:.95


def evaluate(images: DetectionImages, predictions: Sequence[Detections]) -> DetectionScores:
    """The twelve numbers of boxes; those of outlines too, where the images have some and every detection has a mask.

    Args:
        predictions: of every image, in the order of positions. The best hundred of each count.

    Raises:
        UserError: pycocotools is not installed.
    """
    truth, results = images.ground_truth(), list(coco_results(images, predictions))
    box, box_classes = evaluate_results(truth, results, "bbox")
    per_class = {
        name: dict(zip(("AP", "AP50", "AP75"), row, strict=True))
        for name, row in zip(images.classes, box_classes, strict=True)
    }
    outlined = any("segmentation" in entry for entry in truth["annotations"])
    mask = None
    if outlined and all("segmentation" in entry for entry in results):
        mask, mask_classes = evaluate_results(truth, results, "segm")
        for name, row in zip(images.classes, mask_classes, strict=True):
            per_class[name].update(zip(("mask AP", "mask AP50", "mask AP75"), row, strict=True))
    return DetectionScores(box=box, mask=mask, per_class=per_class)


def evaluate_results(
    truth: dict[str, Any], results: Sequence[dict[str, Any]], kind: str
) -> tuple[dict[str, float], list[tuple[float, float, float]]]:
    """The twelve numbers, and AP, AP50, AP75 of each category by number; in percent, NaN where nothing is to be found.

    Args:
        truth: a COCO document. results: as COCO's result files have them. kind: "bbox" or "segm".
    """
    pycocotools_mask()
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    # Of a result with a box, pycocotools would take the box's area for the size of its region.
    unused = "segmentation" if kind == "bbox" else "bbox"
    own = [{key: value for key, value in entry.items() if key != unused} for entry in results]
    with contextlib.redirect_stdout(io.StringIO()):
        truths, detections = COCO(), COCO()
        truths.dataset = {**truth, "annotations": [_with_region(entry) for entry in truth["annotations"]]}
        truths.createIndex()
        if own:
            detections = truths.loadRes(own)
        else:
            detections.dataset = {**truth, "annotations": []}
            detections.createIndex()
        evaluation = COCOeval(truths, detections, kind)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    precision = evaluation.eval["precision"][:, :, :, 0, -1]  # IoU, recall, category; all areas, 100 detections
    return (
        {name: _percent(value) for name, value in zip(NAMES, evaluation.stats.tolist(), strict=True)},
        [
            (_mean(precision[:, :, number]), _mean(precision[IOU_50, :, number]), _mean(precision[IOU_75, :, number]))
            for number in range(precision.shape[2])
        ],
    )


def _with_region(entry: dict[str, Any]) -> dict[str, Any]:
    """A copy, since pycocotools writes into it; a crowd of which only the box is known has the box as its region."""
    if "segmentation" in entry:
        return dict(entry)
    left, top, width, height = entry["bbox"]
    right, bottom = left + width, top + height
    return {**entry, "segmentation": [[left, top, right, top, right, bottom, left, bottom]]}


def _mean(precision: np.ndarray) -> float:
    return _percent(float(precision.mean()))


def _percent(value: float) -> float:
    """pycocotools says -1, and -1 at every recall and overlap, where there is no object of a size or category."""
    return float("nan") if value == -1 else 100 * value
