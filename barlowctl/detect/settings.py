"""Settings of a detector: how many anchors, proposals and RoIs, of which sizes, and what counts as a detection."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

Head = Literal["c4", "fpn"]


@dataclass(frozen=True)
class TrainTest:
    """A number that differs between training and testing."""

    train: int
    test: int


@dataclass(frozen=True, kw_only=True)
class ModelSettings:
    """The values of MoCo's detectron2 configurations (R_50_C4), which the paper follows; tests take smaller ones.

    Attributes:
        anchor_sizes: square roots of the anchors' areas, in pixels of the network's input; of C4 alone.
        aspect_ratios: height / width of the anchors; each size has all of them.
        anchors_per_image: anchors that are sampled for the loss of an image; `positive_anchors`: their largest share
            that lies on objects.
        before_nms: proposals of an image, those of highest objectness, that non-maximum suppression sees (with FPN:
            of each level); `proposals`: those that are left at most. None: detectron2's of the head (`OF_HEAD`).
        proposal_nms: IoU from which on a proposal suppresses another one.
        rois_per_image: proposals that are sampled for the second stage's loss; `foreground_rois`: their largest share
            that lies on objects.
        pooled: RoIs are pooled to this many cells a side, which the last stage halves.
        mask_channels: of the mask head.
        box_features: width of the two layers of the FPN's box head; C4 has none.
        extra_norm: batch norm behind the last stage of a C4 head (MoCo's addition to detectron2).
        score: least score of a detection. nms: IoU from which on it suppresses one of its class.
        detections: of an image at most.
        recompute: activations of body and head are computed again in the backward pass instead of being kept.
    """

    anchor_sizes: tuple[float, ...] = (32.0, 64.0, 128.0, 256.0, 512.0)
    aspect_ratios: tuple[float, ...] = (0.5, 1.0, 2.0)
    anchors_per_image: int = 256
    positive_anchors: float = 0.5
    before_nms: TrainTest | None = None
    proposals: TrainTest | None = None
    proposal_nms: float = 0.7
    rois_per_image: int = 512
    foreground_rois: float = 0.25
    pooled: int = 14
    mask_channels: int = 256
    box_features: int = 1024
    extra_norm: bool = True
    score: float = 0.05
    nms: float = 0.5
    detections: int = 100
    recompute: bool = False

    def of_head(self, head: Head) -> ModelSettings:
        """With detectron2's values of that head where there is None."""
        own = OF_HEAD[head]
        return replace(self, before_nms=self.before_nms or own.before_nms, proposals=self.proposals or own.proposals)


class ProposalCounts(NamedTuple):
    """See `ModelSettings`."""

    before_nms: TrainTest
    proposals: TrainTest


PAPER = ModelSettings()
OF_HEAD: Mapping[Head, ProposalCounts] = {
    "c4": ProposalCounts(TrainTest(12000, 6000), TrainTest(2000, 1000)),
    "fpn": ProposalCounts(TrainTest(2000, 1000), TrainTest(1000, 1000)),
}
