"""The shortcut of a residual block, whose gradient is added to that of the other branch where this one lies.

As autograd has it, each branch's gradient is a map of its own, and they are added in another pass over memory. The
gradient of a shortcut by a 1 x 1 convolution with a stride, which sees a quarter of the block's pixels, is even spread
over a map of zeros first. Here the seen pixels are added to what the other branch has made; and where the shortcut is
the block's input, the product that ends the other branch adds to the shortcut's. Results are the same.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

from barlowctl.model.cpu import tile_rows
from barlowctl.model.cpu.matrix_products import matrix_of, rows_of
from barlowctl.model.cpu.product_convolution import ProductConvolution
from barlowctl.model.cpu.strided_pointwise import seen_pixels
from barlowctl.modes import is_watched
from barlowctl.own_gradients import is_made_here, once_differentiable


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


class _Beside(torch.autograd.Function):
    """The 1 x 1 convolution of x `(n, c, h, w)` in channels_last with weight `(d, c, 1, 1)`; and x itself."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        rounded = weight.to(x.dtype)
        ctx.save_for_backward(x, rounded)
        ctx.set_materialize_grads(False)
        ctx.in_rows = x.dtype == torch.bfloat16 and tile_rows.takes(weight, x)
        size = (len(x), len(weight), *x.shape[2:])
        out = torch.empty(size, dtype=x.dtype, memory_format=torch.channels_last)
        torch.mm(rows_of(x), matrix_of(rounded).t(), out=rows_of(out))
        return out, x.view_as(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor | None, of_shortcut: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
        if grad is None:
            return of_shortcut, None
        x, weight = ctx.saved_tensors
        grad = grad.contiguous(memory_format=torch.channels_last)
        rows, of_weight = rows_of(grad), None
        if ctx.needs_input_grad[1] and ctx.in_rows:
            of_weight = tile_rows.gradient_of_weight(x, grad, weight.shape, (1, 1), (0, 0))
        elif ctx.needs_input_grad[1]:
            of_weight = (rows.t() @ rows_of(x)).view(len(weight), 1, 1, -1).permute(0, 3, 1, 2)
        if of_shortcut is None:
            of_shortcut = torch.zeros_like(x)
        elif not is_made_here(of_shortcut):  # somebody else may hold it
            of_shortcut = of_shortcut.clone(memory_format=torch.channels_last)
        rows_of(of_shortcut).addmm_(rows, matrix_of(weight))
        return of_shortcut, of_weight


def begun(x: Tensor, convolution: nn.Module, downsample: nn.Module | None) -> tuple[Tensor, Tensor]:
    """The result of a block's first convolution, and its shortcut.

    Args:
        x: the block's map. convolution: its first one. downsample: of the shortcut; None: x itself.
    """
    if downsample is None and isinstance(convolution, ProductConvolution):
        if convolution.adds_in_rows(x):
            return tile_rows.beside(x, convolution.weight)
        if convolution.takes_shortcut(x):
            with torch.autocast("cpu", enabled=False):
                out: tuple[Tensor, Tensor] = _Beside.apply(x, convolution.weight)
            return out
    x, shortcut = branches(x, convolution, downsample)
    return convolution(x), shortcut


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
    if not ours or watched:
        return x, downsample(x)
    first = cast(ProductConvolution, first)
    if first.adds_in_rows(x):
        x, shortcut = tile_rows.branches(x, first.weight, cast(tuple[int, int], first.stride))
    elif first.takes_seen_pixels(x):
        x, seen = _Branch.apply(x, first.stride)
        shortcut = first.of_seen_pixels(seen)
    else:
        return x, downsample(x)
    for part in cast(nn.Sequential, downsample)[1:]:
        shortcut = part(shortcut)
    return x, shortcut
