"""From a backbone's last map or tokens to features: another pooling of timm's, or four overlapping windows."""

from __future__ import annotations

import copy
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from barlowctl.errors import UserError, one_line


def pooled_otherwise(backbone: nn.Module, pooling: str) -> nn.Module:
    """A copy of a timm backbone that makes one vector of its last map or tokens in another of timm's ways.

    Its weights are the same. Of a vision transformer trained with its class token, "avg" is the mean of the patches'
    tokens behind the last norm.

    Raises:
        UserError: the family has no such pooling.
    """
    model = cast(Any, copy.deepcopy(backbone))
    try:
        model.reset_classifier(0, global_pool=pooling)
    except (AssertionError, AttributeError, TypeError, ValueError, RuntimeError) as error:
        raise UserError(
            f"{type(backbone).__name__} has no pooling '{pooling}': {one_line(error)}",
            allowed="token (transformers with a class token), avg, max, avgmax; catavgmax (ResNets and their kin)",
            next="--set model.pooling=default",
        ) from error
    return cast(nn.Module, model)


class QuarterPooling(nn.Module):
    """A backbone's last map, averaged over four windows and flattened.

    Each window leaves out one row and one column of the map: on the 7 x 7 map of a ResNet-50 at 224 pixels that is
    the average pooling of 6 x 6, one step apart, by which the VOC07 benchmark of Goyal et al. (2019) makes 2 x 2 x
    2,048 numbers of res5. Order of the features: channel, then row, then column.

    Args:
        backbone: a timm model for which `last_map_shape` finds a map.
    """

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H, W) images -> (N, 4 F) features."""
        last = _last_map(self.backbone, images)
        if last is None:
            raise ValueError("the backbone has no map: see last_map_shape")
        height, width = last.shape[2:]
        return F.avg_pool2d(last, (height - 1, width - 1), stride=1).flatten(1)


def last_map_shape(backbone: nn.Module, size: int, *, in_chans: int) -> tuple[int, int, int] | None:
    """(F, H, W) of the last map for square images of `size` pixels; None where there is none (a ViT's tokens).

    One image of zeros is computed. The backbone must be in evaluation mode.
    """
    device = next((parameter.device for parameter in backbone.parameters()), torch.device("cpu"))
    with torch.no_grad():
        last = _last_map(backbone, torch.zeros(1, in_chans, size, size, device=device))
    return None if last is None else (last.shape[1], last.shape[2], last.shape[3])


def _last_map(backbone: nn.Module, images: Tensor) -> Tensor | None:
    """(N, F, H, W), before the global pooling; None for a backbone that has no such map."""
    model = cast(Any, backbone)  # timm's interface
    if not hasattr(model, "forward_features"):
        return None
    last = model.forward_features(images)
    if not isinstance(last, Tensor) or last.ndim != 4:
        return None
    if str(getattr(model, "output_fmt", "")).endswith("NHWC"):  # Swin and its kin
        last = last.permute(0, 3, 1, 2)
    return last if last.shape[1] == model.num_features else None
