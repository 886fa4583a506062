"""The second stage: proposals to classes, boxes and masks, with detectron2's settings and losses."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.detection.roi_heads import RoIHeads

from barlowctl.detect.annotations import Polygons
from barlowctl.detect.losses import LossSum, box_sum, classification_sum, mask_sum
from barlowctl.detect.masks import mask_targets
from barlowctl.detect.rpn import at_least_float32
from barlowctl.detect.sampling import KeyedSampler
from barlowctl.detect.settings import ModelSettings

ROI_DRAWS = 1
"""Stream of the draws of RoIs (see `KeyedSampler`)."""
Sizes = Sequence[tuple[int, int]]


class BoxPredictor(nn.Module):
    """Features of RoIs to scores of K + 1 classes and four deltas for each of the K that are objects.

    As detectron2 begins: weights N(0, 0.01) of scores and N(0, 0.001) of deltas, biases 0.

    Deviation: the background is class 0, as in torchvision's code around it, and not K.
    """

    def __init__(self, width: int, num_classes: int) -> None:
        super().__init__()
        self.cls_score = nn.Linear(width, num_classes + 1)
        self.bbox_pred = nn.Linear(width, 4 * num_classes)
        for layer, std in ((self.cls_score, 0.01), (self.bbox_pred, 0.001)):
            nn.init.normal_(layer.weight, std=std)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """`(R, width)` -> scores `(R, K + 1)`, deltas `(R, 4 (K + 1))`; the background's are zeros. Float32."""
        return at_least_float32(self.cls_score(x)), F.pad(at_least_float32(self.bbox_pred(x)), (4, 0))


class Objects(NamedTuple):
    """What is to be detected in one image: boxes `(n, 4)`, labels `(n,)` in 0..K-1, outlines where there are any."""

    boxes: Tensor
    labels: Tensor
    polygons: Polygons | None


class HeadLosses(NamedTuple):
    """Sums of the second stage's losses."""

    classification: LossSum
    box: LossSum
    mask: LossSum


class SecondStage(RoIHeads, ABC):
    """torchvision's RoI heads, in which boxes and masks may share features; what those are, subclasses say.

    RoIs are positive from IoU 0.5 on, negative below; boxes of objects are among them. Deltas are weighted by 10, 10,
    5, 5.

    Args:
        pool: boxes of images to RoIs. head: RoIs to features. predictor: features to scores and deltas.
        mask_head: features of RoIs to masks; None: there are none.

    Attributes:
        title: what it is called in the field.
    """

    title: ClassVar[str]

    def __init__(
        self,
        pool: nn.Module,
        head: nn.Module,
        predictor: nn.Module,
        settings: ModelSettings,
        mask_head: nn.Module | None = None,
    ) -> None:
        super().__init__(
            pool,
            head,
            predictor,
            fg_iou_thresh=0.5,
            bg_iou_thresh=0.5,
            batch_size_per_image=settings.rois_per_image,
            positive_fraction=settings.foreground_rois,
            bbox_reg_weights=None,
            score_thresh=settings.score,
            nms_thresh=settings.nms,
            detections_per_img=settings.detections,
            mask_head=mask_head,
        )
        self.fg_bg_sampler = KeyedSampler(settings.rois_per_image, settings.foreground_rois, stream=ROI_DRAWS)

    @abstractmethod
    def regions(self, features: Mapping[str, Tensor], boxes: list[Tensor], sizes: Sizes) -> Tensor:
        """What is computed of boxes `(n_i, 4)` of each image, row by row."""

    @abstractmethod
    def vectors(self, regions: Tensor) -> Tensor:
        """Of those the features `(R, width)` that the predictor takes."""

    @abstractmethod
    def mask_regions(
        self, features: Mapping[str, Tensor], boxes: list[Tensor], sizes: Sizes, regions: Tensor | None
    ) -> Tensor:
        """What the mask head takes for boxes; `regions`: theirs, where they are known."""

    def losses(
        self, features: Mapping[str, Tensor], proposals: list[Tensor], sizes: Sizes, objects: Sequence[Objects]
    ) -> HeadLosses:
        """The losses of RoIs that are sampled among proposals `(n_i, 4)` and objects of each image."""
        targets = [{"boxes": of_image.boxes, "labels": of_image.labels + 1} for of_image in objects]
        boxes, matches, labels, deltas = self.select_training_samples(proposals, targets)
        regions = self.regions(features, boxes, sizes)
        class_logits, box_deltas = self.box_predictor(self.vectors(regions))
        flat_labels = torch.cat(labels)
        classification = classification_sum(class_logits, flat_labels)
        box = box_sum(box_deltas, flat_labels, torch.cat(list(deltas)))
        if self.mask_head is None:
            return HeadLosses(classification, box, LossSum(class_logits.new_zeros(()), 0))
        return HeadLosses(
            classification, box, self._mask_loss(features, sizes, objects, (boxes, matches, labels), regions)
        )

    def _mask_loss(
        self,
        features: Mapping[str, Tensor],
        sizes: Sizes,
        objects: Sequence[Objects],
        samples: tuple[list[Tensor], list[Tensor], list[Tensor]],
        regions: Tensor,
    ) -> LossSum:
        """Of the foreground RoIs whose object has an outline.

        Without any of them it is computed on no rows, so that every rank of a training has the same graph.
        """
        rows, boxes, polygons = [], [], []
        for of_image, own_boxes, own_matches, own_labels in zip(objects, *samples, strict=True):
            outlines = of_image.polygons or ((),) * len(of_image.labels)
            has_outline = torch.tensor([len(parts) > 0 for parts in outlines] or [False], device=own_labels.device)
            foreground = (own_labels > 0) & has_outline[own_matches]
            rows.append(foreground)
            boxes.append(own_boxes[foreground])
            polygons += [outlines[match] for match in own_matches[foreground].tolist()]
        chosen = torch.where(torch.cat(rows))[0]
        logits = self.mask_head(self.mask_regions(features, boxes, sizes, regions[chosen]))
        return mask_sum(
            logits, torch.cat(samples[2])[chosen] - 1, mask_targets(polygons, torch.cat(boxes), logits.shape[-1])
        )

    def detect(
        self, features: Mapping[str, Tensor], proposals: list[Tensor], sizes: Sizes
    ) -> list[tuple[Tensor, Tensor, Tensor, Tensor | None]]:
        """Per image boxes `(m, 4)` in its pixels, scores `(m,)`, labels `(m,)` in 0..K-1, masks `(m, M, M)` or None."""
        regions = self.regions(features, proposals, sizes)
        boxes, scores, labels = self.postprocess_detections(
            *self.box_predictor(self.vectors(regions)), proposals, list(sizes)
        )
        labels = [of_image - 1 for of_image in labels]
        masks: Sequence[Tensor | None] = [None] * len(boxes)
        if self.mask_head is not None:
            logits = self.mask_head(self.mask_regions(features, boxes, sizes, None))
            flat = torch.cat(labels)
            own_class = logits[torch.arange(len(flat), device=flat.device), flat].sigmoid()
            masks = own_class.split([len(of_image) for of_image in boxes])
        return list(zip(boxes, scores, labels, masks, strict=True))
