"""Settings of a detector: how many anchors, proposals and RoIs, of which sizes, and what counts as a detection."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Literal, NamedTuple

from pydantic import ConfigDict, Field

Head = Literal["c4", "fpn"]
# What values may be, for who validates those that a person named. Strict: true is no number.
Count = Annotated[int, Field(ge=1, le=2**31 - 1, strict=True)]
Cells = Annotated[int, Field(ge=2, le=256, strict=True)]
Share = Annotated[float, Field(ge=0.0, le=1.0, strict=True)]
Sides = Annotated[tuple[Annotated[float, Field(ge=1.0, le=1e6, strict=True)], ...], Field(min_length=1)]
Ratios = Annotated[tuple[Annotated[float, Field(ge=1e-3, le=1e3, strict=True)], ...], Field(min_length=1)]


@dataclass(frozen=True)
class TrainTest:
    """A number that differs between training and testing."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    train: Count
    test: Count


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

    anchor_sizes: Sides = (32.0, 64.0, 128.0, 256.0, 512.0)
    aspect_ratios: Ratios = (0.5, 1.0, 2.0)
    anchors_per_image: Count = 256
    positive_anchors: Share = 0.5
    before_nms: TrainTest | None = None
    proposals: TrainTest | None = None
    proposal_nms: Share = 0.7
    rois_per_image: Count = 512
    foreground_rois: Share = 0.25
    pooled: Cells = 14
    mask_channels: Count = 256
    box_features: Count = 1024
    extra_norm: bool = True
    score: Share = 0.05
    nms: Share = 0.5
    detections: Count = 100
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
