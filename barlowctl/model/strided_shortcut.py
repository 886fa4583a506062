"""The shortcut of a residual block by a 1 x 1 convolution with a stride, which sees a quarter of the block's pixels.

As autograd has it, the gradient of these pixels is spread over a map of zeros, and all of that is added to the gradient
of the other branch. Here it is added to that where the pixels are. Results are the same.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from barlowctl.model.modes import is_watched
from barlowctl.model.product_convolution import ProductConvolution
from barlowctl.model.strided_pointwise import seen_pixels


class _Branch(torch.autograd.Function):
    """x `(n, c, h, w)` in channels_last, and a map of its pixels that a 1 x 1 convolution with that stride sees."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, stride: tuple[int, int]) -> tuple[Tensor, Tensor]:
        ctx.stride, ctx.shape = stride, x.shape
        ctx.set_materialize_grads(False)
        return x.view_as(x), seen_pixels(x, stride).contiguous(memory_format=torch.channels_last)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor | None, of_seen: Tensor | None) -> tuple[Tensor | None, None]:
        if of_seen is None:
            return grad, None
        if grad is None:
            grad = of_seen.new_zeros(ctx.shape).to(memory_format=torch.channels_last)
        grad = grad.contiguous(memory_format=torch.channels_last)
        seen_pixels(grad, ctx.stride).add_(of_seen)  # a convolution's backward pass made it, and nobody else has it
        return grad, None


def branches(x: Tensor, convolution: nn.Module, downsample: nn.Module | None) -> tuple[Tensor, Tensor]:
    """What a block's first convolution takes, and its shortcut.

    Args:
        x: the block's map. convolution: its first one. downsample: of the shortcut; None: x itself.
    """
    if downsample is None:
        return x, x
    first = downsample[0] if type(downsample) is nn.Sequential else None
    ours = isinstance(first, ProductConvolution) and isinstance(convolution, ProductConvolution)
    watched = is_watched(convolution) or is_watched(downsample)
    if not ours or watched or not cast(ProductConvolution, first).takes_seen_pixels(x):
        return x, downsample(x)
    first = cast(ProductConvolution, first)
    x, seen = _Branch.apply(x, first.stride)
    shortcut = first.of_seen_pixels(seen)
    for part in cast(nn.Sequential, downsample)[1:]:
        shortcut = part(shortcut)
    return x, shortcut
