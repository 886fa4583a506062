"""A feature pyramid on any timm network that gives its maps (arXiv 1612.03144): not the paper's detector."""

from __future__ import annotations

import copy
import math
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, cast

import torch
from timm.layers.format import Format
from timm.models._features import FeatureGetterNet
from torch import Tensor, nn
from torchvision.ops.feature_pyramid_network import FeaturePyramidNetwork, LastLevelMaxPool

from barlowctl.errors import UserError, kind_of
from barlowctl.model.recompute import recompute_activations
from barlowctl.modes import in_mode

CHANNELS = 256
STRIDES = (4, 8, 16, 32)
"""Of the maps that a pyramid is built on, where the network has them."""
TRIED = ((128, 192), (160, 96))
"""Sizes of images that a network is tried on."""
_ERRORS = (TypeError, ValueError, ArithmeticError, AssertionError, AttributeError, KeyError, IndexError, RuntimeError)


class Pyramid(nn.Module):
    """Images `(N, C, H, W)` -> maps of 256 channels, finest first: `p2` of stride 4, ..., and `pool` of twice the last.

    A copy of the network, with its weights and statistics, gives the maps: the last one of each stride. One that has a
    single stride (a vision transformer) has its map scaled to the four of `STRIDES` first (ViTDet, arXiv 2203.16527).

    Args:
        recompute: the network's activations are computed again in the backward pass.

    Attributes:
        strides: by name, of the maps that RoIs are pooled from: those but `pool`.

    Raises:
        UserError: the network gives no maps, or takes images of one size only.
    """

    def __init__(self, backbone: nn.Module, *, recompute: bool = False) -> None:
        super().__init__()
        network = _of_any_size(copy.deepcopy(backbone))
        stages = _stages(network)
        self.network = FeatureGetterNet(network, out_indices=tuple(number for number, _, _ in stages))
        _check_maps(self.network, stages)
        if recompute:
            recompute_activations(network)
        widths, strides = [width for _, width, _ in stages], [stride for _, _, stride in stages]
        self.scales = None
        if len(strides) == 1:
            self.scales = _scales(widths[0], strides[0])
            widths, strides = widths * len(STRIDES), list(STRIDES)
        self.strides = {f"p{int(math.log2(stride))}": stride for stride in strides}
        self.fpn = FeaturePyramidNetwork(widths, CHANNELS, LastLevelMaxPool())

    @property
    def all_strides(self) -> list[int]:
        """Of every map, in their order."""
        strides = list(self.strides.values())
        return [*strides, 2 * strides[-1]]

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        maps = self.network(images)
        if self.scales is not None:
            maps = [scale(maps[0]) for scale in self.scales]
        pyramid: dict[str, Tensor] = self.fpn(OrderedDict(zip(self.strides, maps, strict=True)))
        return pyramid


def _of_any_size(network: nn.Module) -> nn.Module:
    """A transformer that was built for one size of images, changed as timm builds one for any (`dynamic_img_size`)."""
    for module in network.modules():
        for name, value in (("strict_img_size", False), ("dynamic_mask", True), ("dynamic_img_size", True)):
            if hasattr(module, name):
                setattr(module, name, value)
    embed = cast(Any, getattr(network, "patch_embed", None))
    if hasattr(network, "dynamic_img_size") and getattr(embed, "flatten", False):
        embed.flatten, embed.output_fmt = False, Format.NHWC
    return network


def _stages(network: nn.Module) -> list[tuple[int, int, int]]:
    """Number, channels and stride of the last map of each stride that a pyramid takes, finest first."""
    info = getattr(network, "feature_info", None)
    if not hasattr(network, "forward_intermediates") or not info:
        raise _no_pyramid(f"{kind_of(network)} gives no maps")
    stages = {int(stage["reduction"]): (number, int(stage["num_chs"])) for number, stage in enumerate(info)}
    chosen = [(*stages[stride], stride) for stride in STRIDES if stride in stages]
    if not chosen:
        raise _no_pyramid(f"the maps of this {type(network).__name__} have the strides {sorted(stages)}")
    return chosen


def _check_maps(network: nn.Module, stages: Sequence[tuple[int, int, int]]) -> None:
    """Try the network on images of two sizes."""
    parameter = next(network.parameters())
    name = type(network.model).__name__
    channels = _input_channels(network)
    for size in TRIED:
        expected = [(1, width, -(-size[0] // stride), -(-size[1] // stride)) for _, width, stride in stages]
        try:
            with in_mode(network, training=False), torch.no_grad():
                maps = network(torch.zeros(1, channels, *size, dtype=parameter.dtype, device=parameter.device))
        except _ERRORS as error:
            lines = str(error).strip().splitlines() or [type(error).__name__]
            raise _no_pyramid(f"a {name} does not take images of {size[0]} x {size[1]} ({lines[0][:100]})") from error
        shapes = [tuple(part.shape) for part in maps]
        if shapes != expected:
            raise _no_pyramid(f"the maps of a {name} for an image of {size[0]} x {size[1]} are {shapes}")


def _input_channels(network: nn.Module) -> int:
    """Of the first convolution."""
    return next(module.in_channels for module in network.modules() if isinstance(module, nn.Conv2d))


def _scales(width: int, stride: int) -> nn.ModuleList:
    """From a map to those of `STRIDES`: deconvolutions of 2 x 2 upwards, max-pooling downwards."""
    scales = nn.ModuleList()
    for of_map in STRIDES:
        layers: list[nn.Module] = []
        for number in range(int(math.log2(stride / of_map)) if of_map < stride else 0):
            layers += [nn.GELU()] * (number > 0) + [nn.ConvTranspose2d(width, width, 2, stride=2)]
        layers += [nn.MaxPool2d(of_map // stride)] if of_map > stride else []
        scales.append(nn.Sequential(*layers))
    return scales


def _no_pyramid(reason: str) -> UserError:
    return UserError(
        f"a feature pyramid needs a network that gives maps for images of any size, and {reason}",
        allowed="timm's convolutional networks (resnet50, convnext_tiny, regnety_040, efficientnet_b0, ...), "
        "its vit_*_patch16_* and its swin_*",
    )
