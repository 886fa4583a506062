"""What a detector's step costs: small steps on a CPU tell what a large one needs."""

from __future__ import annotations

import pytest
import torch

from barlowctl.assemble import detection_plan
from barlowctl.assemble.allocations import Allocations
from barlowctl.assemble.detection_settings import DetectionSettings
from barlowctl.model import Preprocessing
from tests.detect.detectors import narrow_resnet
from tests.detect.jobs import settings

pytest.importorskip("pycocotools.mask")


def candidate(chosen: DetectionSettings) -> detection_plan.Candidate:
    preprocessing = Preprocessing(interpolation="bilinear", mean=(0.5,) * 3, std=(0.25,) * 3, resize=64, crop=64)
    return detection_plan.Candidate(narrow_resnet(), preprocessing, chosen, 3, torch.device("cpu"))


def test_small_steps_tell_the_memory_of_a_large_one() -> None:
    """Of one image of 480 pixels, the largest, with 256 RoIs, from 200 pixels with 32 and 64."""
    sizes = (
        "rois_per_image=256",
        "proposals={train = 900, test = 20}",
        "before_nms={train = 2000, test = 20}",
    )
    chosen = settings("coco", *sizes, "short_sides=[360, 400, 480]")
    estimated = detection_plan.time_step(candidate(chosen), images=1)
    taken = detection_plan._step(candidate(settings("coco", *sizes, "short_sides=[480]")), images=1)
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
    estimated = detection_plan._testing(candidate(chosen))
    detector = candidate(chosen).detector().eval()
    with Allocations() as counted:
        detector.predict([torch.zeros(3, 400, 533, dtype=torch.uint8)], [(400, 533)])
    held = 3 * sum(parameter.numel() * 4 for parameter in detector.parameters())
    assert estimated - held == pytest.approx(counted.peak, rel=0.15)


def test_a_schedule_is_there_once() -> None:
    """One device in micro-batches of two is what `--micro-batch 2` asks for, and what a small device is told of."""
    cost = detection_plan.StepCost(1, 0.5, 600, 100, 900, 0, "")
    rows = detection_plan.schedules(settings("coco", micro_batch=2), 1, cost)
    assert [(row["devices"], row["batch_size"], row["at_a_time"], row["memory"]) for row in rows] == [
        (1, 4, 2, 300 + 2 * 600),
        (1, 2, 2, 300 + 2 * 600),
    ]
