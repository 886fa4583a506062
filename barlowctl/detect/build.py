"""A detector put together around a backbone: C4, the paper's, or a feature pyramid."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, cast, get_args

from torch import nn

from barlowctl.datasets import IMAGENET
from barlowctl.detect.anchors import Anchors
from barlowctl.detect.c4 import C4Heads, split_resnet
from barlowctl.detect.fpn import PyramidHeads
from barlowctl.detect.method import Detection
from barlowctl.detect.pyramid import CHANNELS, Pyramid
from barlowctl.detect.regions import pycocotools_mask
from barlowctl.detect.roi_heads import SecondStage
from barlowctl.detect.rpn import ProposalNetwork
from barlowctl.detect.settings import PAPER, Head, ModelSettings
from barlowctl.distributed import ALONE, Ranks
from barlowctl.errors import UserError, did_you_mean
from barlowctl.generators import own_generator


def build(
    backbone: nn.Module,
    *,
    num_classes: int,
    head: Head | str = "c4",
    masks: bool = False,
    settings: ModelSettings = PAPER,
    mean: Sequence[float] = IMAGENET.mean,
    std: Sequence[float] = IMAGENET.std,
    ranks: Ranks = ALONE,
    seed: int = 0,
) -> Detection:
    """A detector on the CPU, whose backbone is a copy of the one given, and whose other parts are drawn from `seed`.

    Args:
        backbone: a network as `model.build_backbone` makes it, with its weights and statistics.
        num_classes: K, without the background.
        head: "c4", or "fpn" for a feature pyramid on any network that gives its maps, which is not the paper's.
        masks: Mask R-CNN instead of Faster R-CNN.
        mean, std: of the pixels that the backbone takes, as it was trained: one number for each channel.

    Raises:
        UserError: no such head, a backbone that cannot have it, or masks without pycocotools.
    """
    if head not in get_args(Head):
        raise UserError(f"unknown head '{head}'{did_you_mean(head, get_args(Head))}", allowed=", ".join(get_args(Head)))
    if masks:
        pycocotools_mask()
    with own_generator(seed):
        settings = settings.of_head(cast(Head, head))
        parts = (_c4 if head == "c4" else _fpn)(backbone, num_classes, masks, settings)
    return Detection(
        parts.features,
        parts.rpn,
        parts.heads,
        anchors_per_image=settings.anchors_per_image,
        multiple=parts.stride,
        mean=mean,
        std=std,
        ranks=ranks,
    )


class _Parts(NamedTuple):
    """`stride`: of the coarsest map that RoIs are pooled from."""

    features: nn.Module
    rpn: ProposalNetwork
    heads: SecondStage
    stride: int


def _c4(backbone: nn.Module, num_classes: int, masks: bool, settings: ModelSettings) -> _Parts:
    body, res5, width = split_resnet(backbone, recompute=settings.recompute)
    anchors = Anchors([settings.anchor_sizes], settings.aspect_ratios, [body.stride])
    heads = C4Heads(res5, width, body.stride, num_classes, settings, masks=masks)
    return _Parts(body, ProposalNetwork(body.channels, anchors, settings), heads, body.stride)


def _fpn(backbone: nn.Module, num_classes: int, masks: bool, settings: ModelSettings) -> _Parts:
    pyramid = Pyramid(backbone, recompute=settings.recompute)
    strides = pyramid.all_strides
    anchors = Anchors([(8.0 * stride,) for stride in strides], settings.aspect_ratios, strides)
    heads = PyramidHeads(pyramid.strides, num_classes, settings, masks=masks)
    return _Parts(pyramid, ProposalNetwork(CHANNELS, anchors, settings), heads, max(pyramid.strides.values()))
