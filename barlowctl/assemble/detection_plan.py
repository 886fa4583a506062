"""What a training of a detector would cost: memory and time of a step that is taken here, and its schedules."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from barlowctl.assemble.detection_settings import DetectionSettings
from barlowctl.assemble.synthetic_steps import timed
from barlowctl.detect.batch import DetectionBatch, DetectionTarget
from barlowctl.detect.build import build
from barlowctl.detect.parameter_groups import parameter_groups
from barlowctl.methods import Targets
from barlowctl.model import Preprocessing
from barlowctl.recipe.detection import DETECTION_PROTOCOLS, changed
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
    """Of a step of `images` images on one device: seconds, bytes that the backward pass needs, bytes at the peak.

    peak: of a CUDA device, as it says; of a CPU what weights, gradients, momenta and activations come to.
    how: in words, where from.
    """

    images: int
    seconds: float
    activations: int
    weights: int
    peak: int
    how: str

    def memory(self, images: int) -> int:
        """Bytes of a step of so many images, in proportion."""
        return 3 * self.weights + (self.peak - 3 * self.weights) * images // self.images


def time_step(
    backbone: nn.Module,
    preprocessing: Preprocessing,
    settings: DetectionSettings,
    classes: int,
    device: torch.device,
    images: int,
) -> StepCost:
    """What a step costs: taken on random pixels, of images at the median size of the protocol.

    A CPU takes two small steps instead, which need little memory and time: of one image at half the size, with few
    RoIs and with twice as many. What the image costs goes with its pixels, the rest with the RoIs.
    """
    rois = settings.model.rois_per_image
    if device.type == "cuda" or rois <= 2 * FEW_ROIS:
        return _step(backbone, preprocessing, settings, classes, device, images)
    few, more = (
        _step(backbone, preprocessing, _small(settings, count), classes, device, 1)
        for count in (FEW_ROIS, 2 * FEW_ROIS)
    )
    pixels = 4 if int(np.median(settings.protocol.short_sides)) > LARGE_SIDE else 1

    def whole(few: float, more: float) -> float:
        of_roi = max(more - few, 0.0) / FEW_ROIS
        return max(few - of_roi * FEW_ROIS, 0.0) * pixels + of_roi * rois

    activations = int(whole(few.activations, more.activations))
    how = f"from steps of one image{' at half the size' if pixels > 1 else ''} with {FEW_ROIS} and {2 * FEW_ROIS} RoIs"
    seconds = whole(few.seconds, more.seconds)
    return StepCost(1, seconds, activations, few.weights, 3 * few.weights + activations, how)


def _small(settings: DetectionSettings, rois: int) -> DetectionSettings:
    """With few RoIs, and images of half the size where they are large."""
    protocol, side = settings.protocol, int(np.median(settings.protocol.short_sides))
    if side > LARGE_SIDE:
        protocol = protocol.model_copy(update={"short_sides": (side // 2,), "longest": protocol.longest // 2})
    return replace(settings, protocol=protocol, model=replace(settings.model, rois_per_image=rois))


def _step(
    backbone: nn.Module,
    preprocessing: Preprocessing,
    settings: DetectionSettings,
    classes: int,
    device: torch.device,
    images: int,
) -> StepCost:
    """A step that is taken."""
    detector = build(
        backbone,
        num_classes=classes,
        head=settings.head,
        masks=settings.protocol.masks,
        settings=settings.model,
        mean=preprocessing.mean,
        std=preprocessing.std,
    ).to(device)
    detector.train()
    batch = random_batch(settings, classes, images).to(device)
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
    weights = sum(p.numel() * p.element_size() for p in detector.parameters())
    with _saved() as saved:
        seconds = timed(step, batch, targets)
    own = {p.untyped_storage()._cdata for p in detector.parameters()}
    activations = sum(size for place, size in saved.items() if place not in own)
    peak = 3 * weights + activations
    if device.type == "cuda":  # the first step chose kernels
        torch.cuda.reset_peak_memory_stats(device)
        seconds = min(timed(step, batch, targets) for _ in range(3))
        peak = torch.cuda.max_memory_allocated(device)
    how = f"a step of {images} image{'s' if images > 1 else ''} taken now"
    return StepCost(images, seconds, activations, weights, peak, how)


@contextmanager
def _saved() -> Iterator[dict[int, int]]:
    """Bytes of every piece of memory that a backward pass needs, by its identity."""
    saved: dict[int, int] = {}

    def remember(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        saved[storage._cdata] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(remember, lambda tensor: tensor):
        yield saved


def random_batch(settings: DetectionSettings, classes: int, images: int) -> DetectionBatch:
    """Random pixels of the protocol's median size, 4 : 3, with objects at random places."""
    protocol, random = settings.protocol, np.random.default_rng(0)
    height = int(np.median(protocol.short_sides))
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
            rows.append(_row(settings, count, settings.micro_batch, cost))
    if protocol.batch_size > SMALL_BATCH:
        rows.append(_row(replace(settings, micro_batch=SMALL_BATCH), 1, SMALL_BATCH, cost))
        small = changed(protocol, {"batch_size": SMALL_BATCH})
        rows.append(_row(replace(settings, protocol=small, micro_batch=0), 1, 0, cost))
    return rows


def _row(settings: DetectionSettings, devices: int, micro_batch: int, cost: StepCost) -> dict[str, Any]:
    protocol = settings.protocol
    share = settings.images_per_device(devices)
    at_a_time = min(micro_batch or share, share)
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
