"""The region proposal network, with detectron2's settings and losses."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.models.detection.rpn import RegionProposalNetwork, RPNHead

from barlowctl.detect.anchors import Anchors
from barlowctl.detect.sampling import KeyedSampler
from barlowctl.detect.settings import ModelSettings

ANCHOR_DRAWS = 0
"""Stream of the draws of anchors (see `KeyedSampler`)."""


def at_least_float32(tensor: Tensor) -> Tensor:
    """Of half precision float32, of which boxes and losses are computed; else as it is."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


class _Head(RPNHead):
    """torchvision's (3 x 3 convolution, two 1 x 1; weights N(0, 0.01), biases 0), whose outputs are float32."""

    def forward(self, x: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        objectness, deltas = super().forward(x)
        return [at_least_float32(part) for part in objectness], [at_least_float32(part) for part in deltas]


class ProposalNetwork(RegionProposalNetwork):
    """Feature maps to proposals; in training its losses too, as sums over the sampled anchors.

    Anchors are positive from IoU 0.7 on and where they are an object's best, negative below 0.3; those that reach
    beyond the image count too. Losses: binary cross-entropy, and L1 of the four deltas of positive anchors.

    Args:
        channels: of every feature map. anchors: their anchors, equally many for each cell of every map.
    """

    def __init__(self, channels: int, anchors: Anchors, settings: ModelSettings) -> None:
        assert settings.before_nms is not None, "see ModelSettings.of_head"
        assert settings.proposals is not None
        super().__init__(
            anchors,
            _Head(channels, anchors.num_anchors_per_location()[0]),
            fg_iou_thresh=0.7,
            bg_iou_thresh=0.3,
            batch_size_per_image=settings.anchors_per_image,
            positive_fraction=settings.positive_anchors,
            pre_nms_top_n={"training": settings.before_nms.train, "testing": settings.before_nms.test},
            post_nms_top_n={"training": settings.proposals.train, "testing": settings.proposals.test},
            nms_thresh=settings.proposal_nms,
        )
        self.fg_bg_sampler = KeyedSampler(settings.anchors_per_image, settings.positive_anchors, stream=ANCHOR_DRAWS)

    def compute_loss(
        self, objectness: Tensor, pred_bbox_deltas: Tensor, labels: list[Tensor], regression_targets: list[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Sums over the sampled anchors of all images: binary cross-entropy; L1 of the positive ones.

        torchvision's are means over those, with smooth L1 of beta 1/9. detectron2 divides by `anchors_per_image` for
        each image, however many were sampled: see `Detection`.
        """
        positive, negative = (torch.cat(masks).bool() for masks in self.fg_bg_sampler(labels))
        sampled, foreground = torch.where(positive | negative)[0], torch.where(positive)[0]
        objectness_sum = F.binary_cross_entropy_with_logits(
            objectness.flatten()[sampled], torch.cat(labels)[sampled].to(objectness.dtype), reduction="sum"
        )
        targets = torch.cat(regression_targets)[foreground].to(pred_bbox_deltas.dtype)
        return objectness_sum, F.l1_loss(pred_bbox_deltas[foreground], targets, reduction="sum")
