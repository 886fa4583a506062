"""A ResNet as detectron2's C4 takes it: body up to the third stage, and the fourth one as the head of each RoI."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast

import torch
from timm.models.resnet import ResNet
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from barlowctl.detect.mask_head import C4MaskHead
from barlowctl.detect.roi_heads import BoxPredictor, SecondStage, Sizes
from barlowctl.detect.roi_pool import AlignedRoIPool
from barlowctl.detect.settings import ModelSettings
from barlowctl.errors import UserError, kind_of

MAP = "res4"
"""Name of the body's only map."""
STAGES = ("layer1", "layer2", "layer3")


class C4Body(nn.Module):
    """Images `(N, C, H, W)` -> the map of the third stage, `{"res4": (N, channels, H / stride, W / stride)}`.

    Attributes:
        channels, stride: of that map; a ResNet-50's are 1024 and 16.
    """

    def __init__(self, resnet: nn.Module, channels: int, stride: int, *, recompute: bool = False) -> None:
        super().__init__()
        parts = cast(Any, resnet)
        self.conv1, self.bn1, self.act1, self.maxpool = parts.conv1, parts.bn1, parts.act1, parts.maxpool
        self.layer1, self.layer2, self.layer3 = parts.layer1, parts.layer2, parts.layer3
        self.channels, self.stride, self.recompute = channels, stride, recompute

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        x = self.maxpool(self.act1(self.bn1(self.conv1(images))))
        for name in STAGES:
            for block in getattr(self, name):
                x = checkpoint(block, x, use_reentrant=False) if self._recomputes(x) else block(x)
        return {MAP: x}

    def _recomputes(self, x: Tensor) -> bool:
        return self.recompute and x.requires_grad and torch.is_grad_enabled()


class C4Heads(SecondStage):
    """RoIs of 14 x 14 cells through the fourth stage, and batch norm behind it: boxes and masks share the result.

    The extra batch norm (MoCo's `Res5ROIHeadsExtraNorm`) begins with gamma 1 and beta 0; with it torch's parameters of
    batch norm are one more than the ResNet's.

    Args:
        res5: the fourth stage. width: its channels. stride: of the body's map.
    """

    title = "C4"

    def __init__(
        self, res5: nn.Module, width: int, stride: int, num_classes: int, settings: ModelSettings, *, masks: bool
    ) -> None:
        head = nn.Sequential()
        head.add_module("res5", res5)
        if settings.extra_norm:
            head.add_module("norm", nn.BatchNorm2d(width))
        super().__init__(
            AlignedRoIPool(settings.pooled, {MAP: stride}),
            head,
            BoxPredictor(width, num_classes),
            settings,
            C4MaskHead(width, settings.mask_channels, num_classes) if masks else None,
        )
        self.recompute = settings.recompute

    def regions(self, features: Mapping[str, Tensor], boxes: list[Tensor], sizes: Sizes) -> Tensor:
        """`(R, width, 7, 7)`."""
        if self.recompute and self.training and torch.is_grad_enabled():
            regions: Tensor = checkpoint(self._pooled_through_head, features[MAP], boxes, sizes, use_reentrant=False)
            return regions
        return self._pooled_through_head(features[MAP], boxes, sizes)

    def _pooled_through_head(self, feature_map: Tensor, boxes: list[Tensor], sizes: Sizes) -> Tensor:
        regions: Tensor = self.box_head(self.box_roi_pool({MAP: feature_map}, boxes, sizes))
        return regions

    def vectors(self, regions: Tensor) -> Tensor:
        """The mean over positions."""
        return regions.mean(dim=(2, 3))

    def mask_regions(
        self, features: Mapping[str, Tensor], boxes: list[Tensor], sizes: Sizes, regions: Tensor | None
    ) -> Tensor:
        """The same as for boxes: nothing goes through the fourth stage twice in training."""
        return self.regions(features, boxes, sizes) if regions is None else regions


class SplitResNet(NamedTuple):
    """A ResNet cut before its fourth stage."""

    body: C4Body
    res5: nn.Module
    width: int


def split_resnet(backbone: nn.Module, *, recompute: bool = False) -> SplitResNet:
    """Body and fourth stage of a copy of a ResNet, with all its weights and statistics; a classifier is left behind.

    What is needed: timm's class `ResNet` (conv1, bn1, act1, maxpool, layer1..4), whose fourth stage halves the third's
    map, so that RoIs of 14 x 14 come out as 7 x 7.

    Raises:
        UserError: it is another network; what can be taken instead.
    """
    if not isinstance(backbone, ResNet):
        raise _no_c4(f"{kind_of(backbone)} has no such stages")
    stages = backbone.feature_info
    names = [str(stage["module"]) for stage in stages]
    if names[-4:] != [*STAGES, "layer4"]:
        raise _no_c4(f"this one has {', '.join(names[1:])}")
    third, fourth = cast(Sequence[Mapping[str, Any]], stages[-2:])
    if fourth["reduction"] != 2 * third["reduction"]:
        raise _no_c4("the fourth stage of this one does not halve the third's map (output_stride)")
    resnet = copy.deepcopy(backbone)
    body = C4Body(resnet, int(third["num_chs"]), int(third["reduction"]), recompute=recompute)
    return SplitResNet(body, cast(nn.Module, resnet.layer4), int(fourth["num_chs"]))


def _no_c4(reason: str) -> UserError:
    return UserError(
        f"a C4 detector is made of the four stages of a ResNet, and {reason}",
        allowed="timm's ResNet class: resnet18 to resnet152, resnext50_32x4d, wide_resnet50_2, seresnet50, ... "
        "Other networks with a feature pyramid, which is not the paper's detector",
        next="--head fpn",
    )
