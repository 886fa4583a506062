"""A small Mask R-CNN C4 on sixteen generated images, in a plain loop: it must come to know them by heart."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from barlowctl.detect import precise_bn
from barlowctl.detect.build import build
from barlowctl.detect.coco import open_coco
from barlowctl.detect.detections import Detections
from barlowctl.detect.loader import DetectionLoader, undistorted_images
from barlowctl.detect.method import Detection
from barlowctl.detect.parameter_groups import parameter_groups
from barlowctl.detect.settings import ModelSettings, TrainTest
from benchmarks.detection_shapes import write_shapes

SETTINGS = ModelSettings(
    anchor_sizes=(16.0, 32.0, 64.0, 128.0),
    before_nms=TrainTest(600, 400),
    proposals=TrainTest(200, 100),
    rois_per_image=64,
    mask_channels=64,
)
SHORT_SIDE, LONGEST, IMAGES = 128, 320, 16


@dataclass
class Overfit:
    """A training on the first sixteen images of the generated set, written to `folder`."""

    folder: Path
    steps: int = 500
    batch: int = 4
    lr: float = 0.15
    channels: tuple[int, ...] = (16, 24, 32, 64)
    blocks: tuple[int, ...] = (1, 1, 1, 1)
    warmup: int = 50
    seed: int = 0
    settings: ModelSettings = SETTINGS
    momentum: float = 0.1  # of batch norm's running statistics, which training does not read

    def __post_init__(self) -> None:
        write_shapes(self.folder, train=IMAGES, test=1, seed=1)
        self.images = open_coco(self.folder / "coco", "train")

    def backbone(self) -> nn.Module:
        from timm.models.resnet import BasicBlock, ResNet

        torch.manual_seed(self.seed)
        return ResNet(BasicBlock, self.blocks, num_classes=0, channels=self.channels, stem_type="deep", stem_width=8)

    def loader(self, seed: int) -> DetectionLoader:
        return DetectionLoader(
            self.images,
            batch_size=self.batch,
            seed=seed,
            interval=self.steps,
            short_sides=(SHORT_SIDE,),
            longest=LONGEST,
            flip=0.0,
        )

    def factor(self, step: int) -> float:
        """Of the learning rate: a linear warm-up, and a tenth in the last sixth."""
        return min(1.0, (step + 1) / self.warmup) * (0.1 if step >= self.steps * 5 // 6 else 1.0)

    def train(self, report: int = 0) -> Detection:
        """The detector after all steps; losses are printed every `report` of them."""
        model = build(
            self.backbone(),
            num_classes=len(self.images.classes),
            masks=True,
            settings=self.settings,
            seed=self.seed,
        ).train()
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = self.momentum
        optimizer = torch.optim.SGD(parameter_groups(model, lr=self.lr, weight_decay=1e-4), momentum=0.9)
        for step, batch in enumerate(self.loader(self.seed).epoch(0)):
            for group in optimizer.param_groups:
                group["lr"] = group["peak_lr"] * self.factor(step)
            optimizer.zero_grad()
            terms = model(batch)
            terms.loss.backward()
            optimizer.step()
            if report and step % report == 0:
                print(
                    step, " ".join(f"{name} {value.item():.3f}" for name, value in terms._asdict().items()), flush=True
                )
        return model

    def with_precise_statistics(self, model: Detection, batches: int = 40) -> Detection:
        """A copy after PreciseBN."""
        precise = copy.deepcopy(model)
        others = self.loader(self.seed + 1).epoch(0)
        precise_bn.recompute(precise, (next(others) for _ in range(batches)))
        return precise

    def detections(self, model: Detection) -> list[Detections]:
        """Of every image, in order."""
        model.eval()
        detections: list[Detections] = []
        for image, original in undistorted_images(
            self.images, positions=range(len(self.images)), short_side=SHORT_SIDE, longest=LONGEST
        ):
            detections += model.predict([image], [original])
        return detections
