"""3 x 3 convolutions that a CPU computes in float32 with a quarter to a half of the products, as Winograd did.

F(m x m, 3 x 3) on square tiles of a map (Lavin and Gray 2016), of up to 4 x 4 pixels: 36 products instead of 144. In
bf16 the error would be too large (see winograd.py). What was measured is in docs/experiments.md.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from barlowctl.model import thread_team

STEP = 16
"""Channels in and out are multiples of it."""
TILES = (4, 3, 2)
"""Sides m of a tile, the one with the fewest transformations first."""
SMALLEST_MAP = 2
"""Pixels of a side from which on it is the faster way."""
FEWEST_TILES = 24
"""Tiles of a batch from which on that makes up for the transformation of the weights."""


def tile_side(height: int, width: int) -> int:
    """The m of F(m x m, 3 x 3) that takes the fewest products for a map: parts of a tile beyond it are computed too."""
    return min(TILES, key=lambda m: -(-height // m) * -(-width // m) * (m + 2) ** 2)


def is_faster(x: Tensor, weight: Tensor) -> bool:
    """Whether a convolution of x, float32 in channels_last, that `fits` is the faster for it."""
    height, width = x.shape[2:]
    m = tile_side(height, width)
    tensors = type(x) is Tensor and type(weight.detach()) is Tensor and weight.dtype == torch.float32
    many = len(x) * -(-height // m) * -(-width // m) >= FEWEST_TILES
    return many and tensors and is_usable()


def is_usable() -> bool:
    """Whether its kernels have the threads that torch computes with, and torch is to compute in float32 itself."""
    mkldnn: Any = torch.backends.mkldnn
    return thread_team.serves() and mkldnn.conv.fp32_precision in {"none", "ieee"}


def fits(weight: Tensor, height: int, width: int) -> bool:
    """Whether a convolution of a map, of stride 1, padding 1 and one group, has products to save."""
    steps = weight.shape[2:] == (3, 3) and weight.shape[0] % STEP == 0 and weight.shape[1] % STEP == 0
    return steps and min(height, width) >= SMALLEST_MAP


def prepare() -> None:
    """Compile the kernels: the first call ever takes seconds."""
    for n, side in ((1, 4), (STEP, 8)):  # few tiles, and many
        x = torch.zeros(n, STEP, side, side).to(memory_format=torch.channels_last).requires_grad_()
        convolve(x, torch.zeros(STEP, STEP, 3, 3, requires_grad=True)).sum().backward()


def convolve(x: Tensor, weight: Tensor) -> Tensor:
    """The 3 x 3 convolution of x, float32 `(n, c, h, w)` in channels_last, with a padding of 1 and no bias.

    Args:
        weight: float32 `(d, c, 3, 3)`; c and d are multiples of 16.

    Returns:
        float32 `(n, d, h, w)` in channels_last.
    """
    out: Tensor = _Winograd2d.apply(x, weight, tile_side(*x.shape[2:]))
    return out


class _Winograd2d(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, m: int) -> Tensor:
        from barlowctl.model import winograd2d_passes  # numba takes a second, which evaluation does not need

        ctx.save_for_backward(x, weight)
        ctx.m = m
        return winograd2d_passes.convolve(x, weight, m, turned=False)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        from barlowctl.model import winograd2d_passes

        x, weight = ctx.saved_tensors
        grad = grad.contiguous(memory_format=torch.channels_last)
        of_x = of_weight = None
        if ctx.needs_input_grad[0]:
            of_x = winograd2d_passes.convolve(grad, weight, ctx.m, turned=True)
        if ctx.needs_input_grad[1]:
            of_weight = winograd2d_passes.gradient_of_weight(x, grad, ctx.m)
        return of_x, of_weight, None
