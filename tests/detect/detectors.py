"""Small detectors and batches for them, where pycocotools is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from barlowctl.detect.batch import DetectionBatch, DetectionTarget
from barlowctl.detect.build import build
from barlowctl.detect.method import Detection
from barlowctl.detect.settings import ModelSettings, TrainTest
from barlowctl.model import build_backbone

pytest.importorskip("pycocotools.mask")  # those who import this are skipped without it: most detectors here have masks
SMALL = ModelSettings(
    anchor_sizes=(16.0, 32.0),
    anchors_per_image=32,
    before_nms=TrainTest(100, 60),
    proposals=TrainTest(40, 20),
    rois_per_image=16,
    mask_channels=8,
    detections=10,
)
CLASSES = 3


def narrow_resnet(block: str = "bottleneck", **options: Any) -> nn.Module:
    """A ResNet of every stage with one block and few channels: bottlenecks give 64 channels for RoIs, and 128."""
    from timm.models.resnet import BasicBlock, Bottleneck, ResNet

    torch.manual_seed(5)
    blocks = {"bottleneck": Bottleneck, "basic": BasicBlock}
    channels = (4, 8, 16, 32)
    resnet = ResNet(blocks[block], (1, 1, 1, 1), num_classes=0, channels=channels, zero_init_last=False, **options)
    return with_statistics(resnet)


def with_statistics(network: nn.Module) -> nn.Module:
    """With running statistics as a training leaves them."""
    for name, buffer in network.named_buffers():
        if name.endswith(("running_mean", "running_var")):
            buffer.copy_(torch.rand(buffer.shape) + 0.5)
    return network


def resnet50() -> nn.Module:
    torch.manual_seed(5)
    return with_statistics(build_backbone("resnet50", in_chans=3, zero_init_last=False))


def detector(
    *, masks: bool = True, backbone: nn.Module | None = None, settings: ModelSettings = SMALL, **options: Any
) -> Detection:
    return build(
        backbone if backbone is not None else narrow_resnet(),
        num_classes=CLASSES,
        masks=masks,
        settings=settings,
        **options,
    )


def rectangle(left: float, top: float, right: float, bottom: float) -> np.ndarray:
    return np.array([[left, top], [right, top], [right, bottom], [left, bottom]], dtype=np.float32)


def target(boxes: list[list[float]], labels: list[int], *, outlines: bool = True) -> DetectionTarget:
    polygons = tuple((rectangle(*box),) for box in boxes) if outlines else None
    return DetectionTarget(torch.tensor(boxes), torch.tensor(labels), polygons)


def images(sizes: list[tuple[int, int]], seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(0, 256, (3, *size), dtype=torch.uint8, generator=generator) for size in sizes]


def batch(sizes: list[tuple[int, int]] | None = None, *, outlines: bool = True) -> DetectionBatch:
    """Images of 96 x 64 or so, with two objects each, of all classes."""
    sizes = sizes or [(64, 96), (96, 64)]
    boxes = [[[4.0, 6.0, 40.0, 38.0], [30.0, 20.0, 60.0, 60.0]], [[2.0, 40.0, 30.0, 90.0], [20.0, 3.0, 50.0, 33.0]]]
    targets = [
        target(boxes[number % 2], [number % CLASSES, (number + 1) % CLASSES], outlines=outlines)
        for number in range(len(sizes))
    ]
    return DetectionBatch(images(sizes), targets, torch.arange(len(sizes)), 100 + torch.arange(len(sizes)))
