"""A small Mask R-CNN C4 learns sixteen images by heart; without PreciseBN it does not show what it knows."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.detect.overfitting import Overfit

pytest.importorskip("pycocotools.mask")


@pytest.mark.slow
def test_sixteen_images_are_learned_by_heart(tmp_path: Path) -> None:
    from barlowctl.detect import coco_metric

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        overfit = Overfit(tmp_path)
        model = overfit.train()
        precise = coco_metric.evaluate(overfit.images, overfit.detections(overfit.with_precise_statistics(model)))
        running = coco_metric.evaluate(overfit.images, overfit.detections(model))
    finally:
        torch.set_num_threads(threads)
    assert precise.box["AP50"] > 90
    assert precise.mask is not None
    assert precise.mask["AP50"] > 80
    assert running.box["AP50"] < precise.box["AP50"] - 5
