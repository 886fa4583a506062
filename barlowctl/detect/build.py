"""A detector put together around a backbone: C4, the paper's, or a feature pyramid."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import nn

from barlowctl.datasets import IMAGENET
from barlowctl.detect.anchors import Anchors
from barlowctl.detect.c4 import C4Heads, split_resnet
from barlowctl.detect.method import Detection
from barlowctl.detect.rpn import ProposalNetwork
from barlowctl.detect.settings import ModelSettings
from barlowctl.distributed import ALONE, Ranks
from barlowctl.errors import UserError, did_you_mean

Head = Literal["c4", "fpn"]


def build(
    backbone: nn.Module,
    *,
    num_classes: int,
    head: Head | str = "c4",
    masks: bool = False,
    settings: ModelSettings | None = None,
    mean: Sequence[float] = IMAGENET.mean,
    std: Sequence[float] = IMAGENET.std,
    ranks: Ranks = ALONE,
    seed: int = 0,
) -> Detection:
    """A detector on the CPU, whose backbone is a copy of the one given, and whose other parts are drawn from `seed`.

    Args:
        backbone: a network as `model.build_backbone` makes it, with its weights and statistics.
        num_classes: K, without the background.
        masks: Mask R-CNN instead of Faster R-CNN.
        mean, std: of the pixels that the backbone takes, as it was trained: one number for each channel.

    Raises:
        UserError: no such head, or a backbone that cannot have it.
    """
    settings = settings or ModelSettings()
    if head not in get_args(Head):
        raise UserError(f"unknown head '{head}'{did_you_mean(head, get_args(Head))}", allowed=", ".join(get_args(Head)))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _c4(backbone, num_classes, masks, settings, mean, std, ranks)


def _c4(
    backbone: nn.Module,
    num_classes: int,
    masks: bool,
    settings: ModelSettings,
    mean: Sequence[float],
    std: Sequence[float],
    ranks: Ranks,
) -> Detection:
    body, res5, width = split_resnet(backbone, recompute=settings.recompute)
    anchors = Anchors([settings.anchor_sizes], settings.aspect_ratios, [body.stride])
    return Detection(
        body,
        ProposalNetwork(body.channels, anchors, settings),
        C4Heads(res5, width, body.stride, num_classes, settings, masks=masks),
        anchors_per_image=settings.anchors_per_image,
        multiple=max(settings.multiple, body.stride),
        mean=mean,
        std=std,
        ranks=ranks,
    )
