"""What a training of a detector would cost: memory and time of a step that is taken here, and its schedules."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import nn

from barlowctl.amounts import counted
from barlowctl.assemble.allocations import Allocations
from barlowctl.assemble.detection_settings import DetectionSettings
from barlowctl.assemble.synthetic_steps import timed
from barlowctl.detect.batch import DetectionBatch, DetectionTarget
from barlowctl.detect.build import build
from barlowctl.detect.method import Detection
from barlowctl.detect.parameter_groups import parameter_groups
from barlowctl.methods import Targets
from barlowctl.model import Preprocessing
from barlowctl.recipe.detection import DETECTION_PROTOCOLS, DetectionProtocol, changed
from barlowctl.train.gradient import autocast
from barlowctl.train.step import TrainingStep

OBJECTS = 8
"""Of each image of a timed step; COCO's have 7 on average."""
SMALL_BATCH = 2
"""Images of a batch that one small device takes: those that each of the paper's eight had."""
FEW_ROIS = 32
"""Of a small step on a CPU, and twice as many of the second one."""
LARGE_SIDE = 320
"""Pixels: images with a larger short side are halved in small steps."""


@dataclass(frozen=True)
class StepCost:
    """Of a step of `images` images on one device: seconds at the median size, bytes at the largest.

    activations: what is held at the peak beside weights, gradients and momenta: activations and their gradients.
    peak: of a CUDA device, as it says; of a CPU all of that, without Python and what kernels need for themselves.
    testing: bytes of the test of one image. how: in words, where from.
    """

    images: int
    seconds: float
    activations: int
    weights: int
    peak: int
    testing: int
    how: str

    def memory(self, images: int) -> int:
        """Bytes of a step of so many images, in proportion."""
        return 3 * self.weights + (self.peak - 3 * self.weights) * images // self.images


@dataclass(frozen=True)
class Candidate:
    """A detector that may be trained, as `build` takes it, and the device that tries it."""

    backbone: nn.Module
    preprocessing: Preprocessing
    settings: DetectionSettings
    classes: int
    device: torch.device

    def detector(self) -> Detection:
        """A new one, on the device."""
        return build(
            self.backbone,
            num_classes=self.classes,
            head=self.settings.head,
            masks=self.settings.protocol.masks,
            settings=self.settings.model,
            mean=self.preprocessing.mean,
            std=self.preprocessing.std,
        ).to(self.device)


def time_step(candidate: Candidate, images: int) -> StepCost:
    """What a step costs: taken on random pixels, of images at the median size of the protocol; memory at the largest.

    A CPU takes two small steps instead, which need little memory and time: of one image at half the size, with few
    RoIs and with twice as many. What the image costs goes with its pixels, the rest with the RoIs.
    """
    settings, testing = candidate.settings, _testing(candidate)
    rois = settings.model.rois_per_image
    if candidate.device.type == "cuda" or rois <= 2 * FEW_ROIS:
        return replace(_step(candidate, images), testing=testing)
    few, more = (_step(replace(candidate, settings=_small(settings, count)), 1) for count in (FEW_ROIS, 2 * FEW_ROIS))
    side, largest = _sides(settings.protocol)
    small = _small_side(side)

    def whole(few: float, more: float, side: int) -> float:
        of_roi = max(more - few, 0.0) / FEW_ROIS
        return max(few - of_roi * FEW_ROIS, 0.0) * (side / small) ** 2 + of_roi * rois

    activations = int(whole(few.activations, more.activations, largest))
    half = " at half the size" if small < side else ""
    how = f"from steps of one image{half} with {FEW_ROIS} and {2 * FEW_ROIS} RoIs"
    seconds = whole(few.seconds, more.seconds, side)
    return StepCost(1, seconds, activations, few.weights, 3 * few.weights + activations, testing, how)


def _sides(protocol: DetectionProtocol) -> tuple[int, int]:
    """Median and largest short side of images to train on."""
    return int(np.median(protocol.short_sides)), max(protocol.short_sides)


def _small_side(side: int) -> int:
    return side // 2 if side > LARGE_SIDE else side


def _small(settings: DetectionSettings, rois: int) -> DetectionSettings:
    """With few RoIs, and images of half the size where they are large."""
    protocol, (side, _) = settings.protocol, _sides(settings.protocol)
    small = _small_side(side)
    protocol = protocol.model_copy(update={"short_sides": (small,), "longest": protocol.longest * small // side})
    return replace(settings, protocol=protocol, model=replace(settings.model, rois_per_image=rois))


def _step(candidate: Candidate, images: int) -> StepCost:
    """A step that is taken: its time at the median size, its memory at the largest."""
    settings, device = candidate.settings, candidate.device
    detector = candidate.detector().train()
    targets = Targets.unlabelled(images, device)
    groups = parameter_groups(detector, lr=1e-6, weight_decay=0.0)
    step = TrainingStep(
        detector,
        torch.optim.SGD(groups, lr=1e-6, momentum=0.9),
        to_input=None,
        device=device,
        precision=settings.protocol.precision,
        recomputes=settings.model.recompute,
    )
    weights = _bytes(detector)
    side, largest = _sides(settings.protocol)
    batch, large = (random_batch(settings, candidate.classes, images, height).to(device) for height in (side, largest))
    with Allocations() as allocations:
        seconds = timed(step, batch, targets).of(1)
    if device.type == "cuda":  # the first step chose kernels
        seconds = min(timed(step, batch, targets).of(1) for _ in range(3))
        torch.cuda.reset_peak_memory_stats(device)
        timed(step, large, targets)
        peak = torch.cuda.max_memory_allocated(device)
        activations = max(0, peak - 3 * weights)
    else:
        activations = int(allocations.peak * (largest / side) ** 2)
        peak = 3 * weights + activations
    how = f"a step of {counted(images, 'image')} taken now"
    return StepCost(images, seconds, activations, weights, peak, 0, how)


def _bytes(detector: nn.Module) -> int:
    return sum(p.numel() * p.element_size() for p in detector.parameters())


@torch.no_grad()
def _testing(candidate: Candidate) -> int:
    """Bytes of the test of one image while weights, gradients and momenta are held.

    On a CPU the larger of what a small image needs, by its pixels, and of what a few RoIs need, by their number.
    """
    protocol, device, detector = candidate.settings.protocol, candidate.device, candidate.detector().eval()
    side, rois, held = protocol.test_short_side, detector.rpn.post_nms_top_n(), 3 * _bytes(detector)
    small = side if device.type == "cuda" else _small_side(side)
    size = (small, small * 4 // 3)
    padded = [-(-pixels // detector.multiple) * detector.multiple for pixels in size]
    with autocast(device, protocol.precision):
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
            before = torch.cuda.memory_allocated(device)
            detector.predict([torch.zeros(3, *size, dtype=torch.uint8, device=device)], [size])
            return held + torch.cuda.max_memory_allocated(device) - before
        with Allocations() as of_image:
            maps = detector.features(torch.zeros(1, len(detector.mean), *padded))
        boxes = torch.tensor([[0.0, 0.0, small / 2, small / 2]]).repeat(FEW_ROIS, 1)
        with Allocations() as of_rois:
            detector.heads.vectors(detector.heads.regions(maps, [boxes], [size]))
    return held + int(max(of_image.peak * (side / small) ** 2, of_rois.peak * rois / FEW_ROIS))


def random_batch(settings: DetectionSettings, classes: int, images: int, height: int) -> DetectionBatch:
    """Random pixels of a height, 4 : 3, with objects at random places."""
    protocol, random = settings.protocol, np.random.default_rng(0)
    width = min(protocol.longest, height * 4 // 3)
    pixels, targets = [], []
    for _ in range(images):
        pixels.append(torch.from_numpy(random.integers(0, 256, (3, height, width), dtype=np.uint8)))
        corners = random.uniform(0.0, 0.7, (OBJECTS, 2)) * (width, height)
        sizes = random.uniform(0.1, 0.3, (OBJECTS, 2)) * (width, height)
        boxes = np.concatenate([corners, corners + sizes], axis=1).astype(np.float32)
        outlines = tuple((box[[0, 1, 2, 1, 2, 3, 0, 3]].reshape(4, 2),) for box in boxes)
        labels = torch.from_numpy(random.integers(0, classes, OBJECTS))
        targets.append(DetectionTarget(torch.from_numpy(boxes), labels, outlines if protocol.masks else None))
    return DetectionBatch(pixels, targets, torch.arange(images), torch.arange(images))


def schedules(settings: DetectionSettings, devices: int, cost: StepCost) -> list[dict[str, Any]]:
    """Ways to train this on eight devices, on one, and on `devices`: what each has, and what it would cost here.

    One device takes the same batch whole, in micro-batches, or a small batch by the linear rule (the number of images
    stays; batch norm sees fewer of them in the latter two).
    """
    protocol, rows = settings.protocol, []
    for count in sorted({8, 1, devices}, reverse=True):
        if protocol.batch_size % count == 0:
            rows.append(_row(settings, count, cost))
    if protocol.batch_size > SMALL_BATCH:
        if settings.micro_batch != SMALL_BATCH:
            rows.append(_row(replace(settings, micro_batch=SMALL_BATCH), 1, cost))
        small = changed(protocol, {"batch_size": SMALL_BATCH})
        rows.append(_row(replace(settings, protocol=small, micro_batch=0), 1, cost))
    return rows


def _row(settings: DetectionSettings, devices: int, cost: StepCost) -> dict[str, Any]:
    protocol = settings.protocol
    share = settings.images_per_device(devices)
    at_a_time = min(settings.micro_batch or share, share)
    seconds = cost.seconds / cost.images * share * protocol.iterations
    return {
        "devices": devices,
        "batch_size": protocol.batch_size,
        "images_per_device": share,
        "at_a_time": at_a_time,
        "lr": protocol.lr,
        "iterations": protocol.iterations,
        "drops": list(protocol.drops),
        "warmup_iterations": protocol.warmup_iterations,
        "memory": cost.memory(at_a_time),
        "hours": seconds / 3600,
        "device_hours": seconds * devices / 3600,
        "is_the_papers": _is_the_papers(settings, at_a_time * devices),
    }


def _is_the_papers(settings: DetectionSettings, seen_by_batch_norm: int) -> bool:
    usual = DETECTION_PROTOCOLS[settings.protocol.name]
    return settings.head == "c4" and settings.protocol == usual and seen_by_batch_norm == usual.batch_size
