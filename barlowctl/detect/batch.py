"""Batches of images of several sizes, with the objects in them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from barlowctl.data.loaders.batch import CopyEvent
from barlowctl.detect.annotations import Polygons


@dataclass(frozen=True)
class DetectionTarget:
    """What is to be detected in one image of a batch, in pixels of that image: resized, perhaps flipped.

    Attributes:
        boxes: float32 (n, 4): left, top, right, bottom; within the image, wider and higher than nothing.
        labels: int64 (n,), 0..K-1.
        polygons: outlines, as in `Annotation`, on the host; None: boxes only.
    """

    boxes: Tensor
    labels: Tensor
    polygons: Polygons | None

    def to(self, device: torch.device, non_blocking: bool = True) -> DetectionTarget:
        """With boxes and labels on a device; the copy may still be under way: what is computed there comes after it."""
        return replace(
            self,
            boxes=self.boxes.to(device, non_blocking=non_blocking),
            labels=self.labels.to(device, non_blocking=non_blocking),
        )


@dataclass(frozen=True)
class DetectionBatch:
    """One rank's share of a batch of n images.

    Attributes:
        images: uint8 (3, H_i, W_i), RGB, resized and perhaps flipped.
        targets: one per image.
        indices: int64 (n,), positions in the source.
        keys: int64 (n,), 0 or more: the seed of each image's own draws in this iteration (anchors and RoIs that are
            sampled), the same on any number of ranks.
        canvas: height and width that hold every image of the iteration, those of other ranks too: padded to it, an
            image is the same on any number of ranks. None: those of this batch alone.
    """

    images: list[Tensor]
    targets: list[DetectionTarget]
    indices: Tensor
    keys: Tensor
    canvas: tuple[int, int] | None = None

    def __len__(self) -> int:
        return len(self.images)

    @property
    def labels(self) -> Tensor:
        """int64 (n,) of -1: an image has no one label."""
        return torch.full_like(self.indices, -1)

    def hold(self, event: CopyEvent) -> None:
        """Nothing is written again, so nothing has to wait for `event`."""

    def parts(self, count: int) -> list[DetectionBatch]:
        """Contiguous micro-batches, at most `count` and none empty: sizes as of torch.tensor_split."""
        bounds = [
            (int(rows[0]), int(rows[-1]) + 1) for rows in torch.arange(len(self)).tensor_split(count) if len(rows)
        ]
        return [
            replace(
                self,
                images=self.images[low:high],
                targets=self.targets[low:high],
                indices=self.indices[low:high],
                keys=self.keys[low:high],
            )
            for low, high in bounds
        ]

    def to(self, device: torch.device, non_blocking: bool = True) -> DetectionBatch:
        """With images, boxes and labels on a device, on their way as in `DetectionTarget.to`; the rest stays."""
        return replace(
            self,
            images=[image.to(device, non_blocking=non_blocking) for image in self.images],
            targets=[target.to(device, non_blocking) for target in self.targets],
        )
