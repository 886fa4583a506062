"""What a detector's step costs: small steps on a CPU tell what a large one needs."""

from __future__ import annotations

import pytest
import torch

from barlowctl.assemble import detection_plan
from barlowctl.assemble.allocations import Allocations
from barlowctl.model import Preprocessing
from tests.detect.detectors import narrow_resnet
from tests.detect.jobs import settings

pytest.importorskip("pycocotools.mask")


def test_small_steps_tell_the_memory_of_a_large_one() -> None:
    """Of one image of 480 pixels, the largest, with 256 RoIs, from 200 pixels with 32 and 64."""
    sizes = (
        "rois_per_image=256",
        "proposals={train = 900, test = 20}",
        "before_nms={train = 2000, test = 20}",
    )
    chosen = settings("coco", *sizes, "short_sides=[360, 400, 480]")
    preprocessing = Preprocessing(interpolation="bilinear", mean=(0.5,) * 3, std=(0.25,) * 3, resize=64, crop=64)
    arguments = (narrow_resnet(), preprocessing, chosen, 3, torch.device("cpu"))
    estimated = detection_plan.time_step(*arguments, images=1)
    arguments = (*arguments[:2], settings("coco", *sizes, "short_sides=[480]"), *arguments[3:])
    taken = detection_plan._step(*arguments, images=1)
    assert estimated.activations == pytest.approx(taken.activations, rel=0.15)
    assert estimated.weights == taken.weights
    assert estimated.how == "from steps of one image at half the size with 32 and 64 RoIs"
    assert estimated.memory(16) == 3 * estimated.weights + 16 * estimated.activations


def test_the_memory_of_a_test_is_that_of_its_rois() -> None:
    """From 32 RoIs and half the size: of 300 proposals at 400 pixels, counted while an image is tested."""
    chosen = settings(
        "voc0712", "test_short_side=400", "proposals={train = 900, test = 300}",
        "before_nms={train = 2000, test = 2000}", "proposal_nms=1.0",
    )  # fmt: skip
    preprocessing = Preprocessing(interpolation="bilinear", mean=(0.5,) * 3, std=(0.25,) * 3, resize=64, crop=64)
    arguments = (narrow_resnet(), preprocessing, chosen, 3, torch.device("cpu"))
    estimated = detection_plan._testing(*arguments)
    detector = detection_plan._detector(*arguments).eval()
    with Allocations() as counted:
        detector.predict([torch.zeros(3, 400, 533, dtype=torch.uint8)], [(400, 533)])
    held = 3 * sum(parameter.numel() * 4 for parameter in detector.parameters())
    assert estimated - held == pytest.approx(counted.peak, rel=0.15)
