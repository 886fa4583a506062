"""The maps of features within a backbone: one vector for each patch of an image, from any of its layers."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

from barlowctl.amounts import counted
from barlowctl.errors import UserError
from barlowctl.modes import in_mode

FAILURES = (RuntimeError, AssertionError, ValueError, TypeError, IndexError)
"""What networks raise on images of a size that they do not take."""


class FeatureMaps:
    """`images (N, C, H, W) -> maps (N, F, h, w)` of one layer of a timm model, in evaluation mode.

    A ResNet has the stem and its four stages, a ConvNeXt four stages, a vision transformer its blocks, whose patch
    tokens are the map (class and register tokens are left out). The maps are those of timm's `forward_intermediates`.
    Those of the last layer are after the final norm, as in `forward_features`; others are as the layer gives them.

    Attributes:
        layers: how many there are. layer: which one, from 0. name: what the model calls it.
        channels: F. stride: pixels from one vector to the next.
        multiple: the sides of an image are multiples of this (of a transformer: its patches).
        size: of the shorter side. any_size: images need not be squares of that size.

    Args:
        backbone: a timm model, on any device. layer: None: the last; negative: from the end.
        size: of the shorter side of an image, which becomes the nearest multiple of `multiple`.

    Raises:
        UserError: it has no maps, or no such layer, or it does not take images of that size.
    """

    def __init__(self, backbone: nn.Module, layer: int | None = None, *, size: int, in_chans: int) -> None:
        self.backbone = backbone
        self.device = next((parameter.device for parameter in backbone.parameters()), torch.device("cpu"))
        self._in_chans = in_chans
        self.multiple = _patch_side(backbone)
        self.size = size = max(1, round(size / self.multiple)) * self.multiple
        sizes = self._sizes(size)
        self.layers = len(sizes)
        known = layers_of(backbone, self.layers)
        chosen = self.layers - 1 if layer is None else layer
        if not -self.layers <= chosen < self.layers:
            listed = ", ".join(f"{number} ({name})" if name else str(number) for number, (name, _) in enumerate(known))
            raise UserError(
                f"--layer is {layer}, and the backbone has {counted(self.layers, 'layer')} with maps",
                allowed=listed,
                next=f"--layer {self.layers - 1}",
            )
        self.layer = chosen % self.layers
        self.name, stride = known[self.layer]
        self.channels, height, _ = sizes[self.layer]
        self.stride = stride or max(1, round(size / height))
        self.any_size = self._takes(size, size + max(self.multiple, self.stride))

    def __call__(self, images: Tensor) -> Tensor:
        """Maps `(N, F, h, w)` of images `(N, C, H, W)`, without a gradient."""
        (maps,) = self._intermediates(images, [self.layer])
        return maps

    def _intermediates(self, images: Tensor, layers: list[int] | None) -> list[Tensor]:
        options: dict[str, Any] = {"intermediates_only": True}
        if layers is not None:
            options |= {"indices": layers, "stop_early": True, "norm": layers == [self.layers - 1]}
        with in_mode(self.backbone, training=False), torch.no_grad():
            maps: list[Tensor] = cast(Any, self.backbone).forward_intermediates(images, **options)
        return maps

    def _sizes(self, size: int) -> list[tuple[int, int, int]]:
        """(F, h, w) of each layer's map for squares of `size` pixels."""
        name = type(self.backbone).__name__
        advice = "name a network with maps: resnet50, vit_small_patch16_224, convnext_tiny"
        if not hasattr(self.backbone, "forward_intermediates"):
            raise UserError(f"{name} has no maps of features: it gives one vector for each image", next=advice)
        try:
            maps = self._intermediates(self._blank(size, size), None)
        except FAILURES as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise UserError(
                f"{name} gives no maps of images of {size} x {size}: {reason}", next="without --image-size"
            ) from error
        if not maps or any(value.ndim != 4 for value in maps):
            raise UserError(
                f"{name} has no maps of features: what its layers give has no rows and columns", next=advice
            )
        return [(value.shape[1], value.shape[2], value.shape[3]) for value in maps]

    def _takes(self, height: int, width: int) -> bool:
        """Whether the backbone takes such images, and gives a map of their shape."""
        try:
            (maps,) = self._intermediates(self._blank(height, width), [self.layer])
        except FAILURES:
            return False
        return maps.shape[3] >= maps.shape[2]

    def _blank(self, height: int, width: int) -> Tensor:
        return torch.zeros(1, self._in_chans, height, width, device=self.device)


def _patch_side(backbone: nn.Module) -> int:
    """Side of a transformer's patches in pixels; 1: the network has none."""
    side = getattr(getattr(backbone, "patch_embed", None), "patch_size", 1)
    return int(max(side) if isinstance(side, list | tuple) else side)


def layers_of(backbone: nn.Module, count: int) -> list[tuple[str, int]]:
    """What each layer is called and its stride, as far as the model says it: else an empty name and 0."""
    described = getattr(backbone, "feature_info", None)
    infos = list(described) if isinstance(described, list | tuple) else []
    if len(infos) != count:
        return [("", 0)] * count
    return [(str(info.get("module", "")), int(info.get("reduction", 0))) for info in infos]
