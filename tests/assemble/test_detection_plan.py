"""What a detector's step costs: small steps on a CPU tell what a large one needs."""

from __future__ import annotations

import pytest
import torch

from barlowctl.assemble import detection_plan
from barlowctl.model import Preprocessing
from tests.detect.detectors import narrow_resnet
from tests.detect.jobs import settings

pytest.importorskip("pycocotools.mask")


def test_small_steps_tell_the_memory_of_a_large_one() -> None:
    """Of one image of 400 pixels with 256 RoIs, from 200 pixels with 32 and 64."""
    chosen = settings(
        "coco",
        "short_sides=[400]",
        "rois_per_image=256",
        "proposals={train = 900, test = 20}",
        "before_nms={train = 2000, test = 20}",
    )
    preprocessing = Preprocessing(interpolation="bilinear", mean=(0.5,) * 3, std=(0.25,) * 3, resize=64, crop=64)
    arguments = (narrow_resnet(), preprocessing, chosen, 3, torch.device("cpu"))
    estimated = detection_plan.time_step(*arguments, images=1)
    taken = detection_plan._step(*arguments, images=1)
    assert estimated.activations == pytest.approx(taken.activations, rel=0.15)
    assert estimated.weights == taken.weights
    assert estimated.how == "from steps of one image at half the size with 32 and 64 RoIs"
    assert estimated.memory(16) == 3 * estimated.weights + 16 * estimated.activations
