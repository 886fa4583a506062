"""Detection as what the engine trains: images with their objects in, the losses out; and what it detects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torchvision.models.detection.image_list import ImageList

from barlowctl.amounts import counted
from barlowctl.datasets import IMAGENET
from barlowctl.detect.batch import DetectionBatch
from barlowctl.detect.detections import Detections
from barlowctl.detect.losses import DetectionTerms, LossSum, batch_terms
from barlowctl.detect.masks import paste, run_lengths
from barlowctl.detect.roi_heads import Objects, SecondStage
from barlowctl.detect.rpn import ProposalNetwork
from barlowctl.distributed import ALONE, Ranks
from barlowctl.methods.base import Targets, Trainable

LUMA = (0.299, 0.587, 0.114)
"""Of red, green and blue in grey (ITU-R BT.601, as Pillow's "L")."""


class Detection(Trainable):
    """Faster R-CNN or Mask R-CNN over any feature maps.

    Over ranks the terms are those of the batch of all ranks: the proposal network's sums by `anchors_per_image` for
    each image, the second stage's by the RoIs and mask pixels that all ranks sampled (see `batch_terms`). A batch in
    several parts is divided part by part, as detectron2 divides on each GPU.

    Args:
        features: images `(N, C, H, W)` -> maps by name. rpn: maps to proposals. heads: proposals to detections.
        mean, std: of the pixels in [0, 1], one number for each channel that `features` takes: 3 (RGB) or 1 (grey).
        multiple: images are padded to multiples of so many pixels.
    """

    terms: ClassVar[Mapping[str, str]] = {
        "objectness": "cross-entropy of anchors: object or background",
        "rpn_box": "L1 of proposals",
        "classification": "cross-entropy of RoIs over the classes and the background",
        "box": "L1 of RoIs that lie on objects",
        "mask": "cross-entropy of the pixels of masks",
    }

    def __init__(
        self,
        features: nn.Module,
        rpn: ProposalNetwork,
        heads: SecondStage,
        *,
        anchors_per_image: int,
        multiple: int,
        mean: Sequence[float] = IMAGENET.mean,
        std: Sequence[float] = IMAGENET.std,
        ranks: Ranks = ALONE,
    ) -> None:
        super().__init__()
        self.features, self.rpn, self.heads = features, rpn, heads
        self.anchors_per_image, self.multiple, self.ranks = anchors_per_image, multiple, ranks
        self.mean, self.std = tuple(mean), tuple(std)

    def forward(self, batch: DetectionBatch, targets: Targets | None = None) -> DetectionTerms:
        """The losses of a batch; in training mode, for that is what samples anchors and RoIs."""
        assert self.training, "in evaluation mode there are detections, and no losses"
        keys = batch.keys.tolist()
        self.rpn.fg_bg_sampler.keys = self.heads.fg_bg_sampler.keys = keys
        images, maps = self.maps(batch)
        objects = [Objects(target.boxes, target.labels, target.polygons) for target in batch.targets]
        proposals, sums = self.rpn(images, maps, [{"boxes": of_image.boxes} for of_image in objects])
        second = self.heads.losses(maps, proposals, images.image_sizes, objects)
        anchors = self.anchors_per_image * len(batch)
        return batch_terms(
            LossSum(sums["loss_objectness"], anchors),
            LossSum(sums["loss_rpn_box_reg"], anchors),
            *second,
            ranks=self.ranks,
        )

    def maps(self, batch: DetectionBatch) -> tuple[ImageList, Mapping[str, Tensor]]:
        """A batch's padded images, and the feature maps of these: what comes before all heads."""
        images = self._padded(batch.images, batch.canvas)
        return images, self.features(images.tensors)

    @torch.no_grad()
    def predict(self, images: Sequence[Tensor], original_sizes: Sequence[tuple[int, int]]) -> list[Detections]:
        """What is detected in images, in pixels of the originals.

        Args:
            images: uint8 `(3, H, W)`, resized for the test. original_sizes: height and width before that.
        """
        assert not self.training, "in training mode there are losses, and no detections"
        padded = self._padded(images)
        maps = self.features(padded.tensors)
        proposals, _ = self.rpn(padded, maps)
        detected = self.heads.detect(maps, proposals, padded.image_sizes)
        return [
            _of_original(*of_image, size, original)
            for of_image, size, original in zip(detected, padded.image_sizes, original_sizes, strict=True)
        ]

    def parts(self, batch: DetectionBatch, count: int) -> Sequence[DetectionBatch]:
        """A batch in so many parts, for micro-batches."""
        return batch.parts(count)

    def describe(self, batch: int, ranks: int = 1) -> str:
        """What is trained, for people."""
        kind = "Mask R-CNN" if self.heads.mask_head is not None else "Faster R-CNN"
        classes = self.heads.box_predictor.cls_score.out_features - 1
        of = counted(classes, "class", "classes")
        return f"{kind} {self.heads.title}, {of}, backbone and heads trained, batch {batch}"

    def _padded(self, images: Sequence[Tensor], canvas: tuple[int, int] | None = None) -> ImageList:
        """uint8 `(3, H_i, W_i)`, normalised, then padded with zeros below and at the right."""
        sizes = [(int(image.shape[-2]), int(image.shape[-1])) for image in images]
        height, width = (max(values) for values in zip(*sizes, *([canvas] if canvas else []), strict=True))
        height, width = (-(-side // self.multiple) * self.multiple for side in (height, width))
        parameter = next(self.parameters())
        mean, std, luma = (torch.tensor(v, device=parameter.device).view(-1, 1, 1) for v in (self.mean, self.std, LUMA))
        tensors = torch.zeros(len(images), len(self.mean), height, width, device=parameter.device)
        for row, image in zip(tensors, images, strict=True):
            pixels = image.to(parameter.device, torch.float32) / 255
            if len(self.mean) == 1:
                pixels = (pixels * luma).sum(dim=0, keepdim=True)
            row[:, : image.shape[-2], : image.shape[-1]] = (pixels - mean) / std
        if parameter.dtype == torch.float64:
            tensors = tensors.double()
        return ImageList(tensors, sizes)


def _of_original(
    boxes: Tensor,
    scores: Tensor,
    labels: Tensor,
    masks: Tensor | None,
    size: tuple[int, int],
    original: tuple[int, int],
) -> Detections:
    """Detections of a resized image scaled back, clipped to the original, without those of which nothing is left."""
    (height, width), (scale_y, scale_x) = original, (new / old for new, old in zip(original, size, strict=True))
    limits = torch.tensor([width, height, width, height], device=boxes.device)
    boxes = boxes.float() * torch.tensor([scale_x, scale_y, scale_x, scale_y], device=boxes.device)
    boxes = boxes.clamp_min(0).minimum(limits)
    remaining = torch.where((boxes[:, 2:] > boxes[:, :2]).all(dim=1))[0]
    boxes, scores, labels = boxes[remaining].cpu(), scores[remaining].float().cpu(), labels[remaining].cpu()
    if masks is None:
        return Detections(boxes, scores, labels, [None] * len(boxes))
    pasted = paste(masks[remaining], boxes.to(masks.device), height, width)
    return Detections(boxes, scores, labels, list(run_lengths(pasted)))
