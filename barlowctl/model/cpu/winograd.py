"""3 x 3 convolutions that a CPU computes with a sixth to a half of the products, as Winograd did.

F(m x m, 3 x 3) on square tiles of a map (Lavin and Gray 2016): of up to 4 x 4 pixels in float32, 36 products instead of
144; of up to 8 x 8, 100 instead of 576, where maps are bf16. There too everything between a map and the next one is
float32, whose errors grow with the tiles (2e-5 at 8 x 8) but stay a hundredth of a bf16's rounding. What was measured
is in docs/experiments.md.
"""

from __future__ import annotations

import platform
from functools import cache
from typing import Any

import torch
from torch import Tensor

from barlowctl.kernels import thread_team
from barlowctl.own_gradients import once_differentiable

STEP = 16
"""Channels in and out are multiples of it."""
TILES = {torch.float32: (4, 3, 2), torch.bfloat16: (8, 7, 6, 5, 4, 3, 2)}
"""By the number format of maps, sides m of a tile, the one with the fewest transformations first."""
FEWEST_CHANNELS = {torch.float32: 16, torch.bfloat16: 32}
SMALLEST_MAP = {torch.float32: 2, torch.bfloat16: 3}
"""Channels in and out, and pixels of a side, from which on it is the faster way."""
FEWEST_TILES = 24
"""Tiles of a batch from which on that makes up for the transformation of the weights."""


def tile_side(height: int, width: int, dtype: torch.dtype) -> int:
    """The m of F(m x m, 3 x 3) that takes the fewest products for a map: parts of a tile beyond it are computed too."""
    return min(TILES[dtype], key=lambda m: -(-height // m) * -(-width // m) * (m + 2) ** 2)


def is_faster(x: Tensor, weight: Tensor, dtype: torch.dtype) -> bool:
    """Whether a convolution of x in channels_last that `fits`, computed in a number format, is the faster for it."""
    height, width = x.shape[2:]
    m = tile_side(height, width, dtype)
    tensors = type(x) is Tensor and type(weight.detach()) is Tensor and weight.dtype == torch.float32
    many = len(x) * -(-height // m) * -(-width // m) >= FEWEST_TILES
    return many and tensors and is_usable(dtype)


def is_usable(dtype: torch.dtype) -> bool:
    """Whether its kernels have the threads that torch computes with, and are the faster ones on this processor.

    In float32 torch is to compute in float32 itself.
    """
    mkldnn: Any = torch.backends.mkldnn
    if not thread_team.serves():
        return False
    return is_x86_without_amx() if dtype == torch.bfloat16 else mkldnn.conv.fp32_precision in {"none", "ieee"}


@cache
def is_x86_without_amx() -> bool:
    """Whether an x86 processor has no instructions for products of whole matrices of bf16 (AMX), or the system lets
    this process use none of them: torch then multiplies without them.
    """
    from llvmlite import binding  # takes a while, which evaluation does not need

    from barlowctl import kernel_cache

    amx = dict(binding.get_host_cpu_features()).get("amx-bf16", False)
    return platform.machine().lower() in {"x86_64", "amd64"} and not (amx and kernel_cache.permits_tiles())


def fits(weight: Tensor, height: int, width: int, dtype: torch.dtype) -> bool:
    """Whether a convolution of a map, of stride 1, padding 1 and one group, has products to save."""
    channels = weight.shape[:2]
    steps = weight.shape[2:] == (3, 3) and all(count % STEP == 0 for count in channels)
    return steps and min(channels) >= FEWEST_CHANNELS[dtype] and min(height, width) >= SMALLEST_MAP[dtype]


def prepare(dtype: torch.dtype, maps: set[tuple[int, int]]) -> None:
    """Compile the kernels for maps of some sizes, (height, width): the first call ever takes seconds."""
    for m in {tile_side(*size, dtype) for size in maps}:
        for n in (1, STEP):  # few tiles, and many
            x = torch.zeros(n, STEP, m, m, dtype=dtype).to(memory_format=torch.channels_last).requires_grad_()
            convolve(x, torch.zeros(STEP, STEP, 3, 3, dtype=torch.float32, requires_grad=True)).sum().backward()


def convolve(x: Tensor, weight: Tensor) -> Tensor:
    """The 3 x 3 convolution of x, bf16 or float32 `(n, c, h, w)` in channels_last, with a padding of 1 and no bias.

    Args:
        weight: float32 `(d, c, 3, 3)`; c and d are multiples of 16. It is not rounded to bf16.

    Returns:
        `(n, d, h, w)` in channels_last, in x's number format. The gradient of the weight is float32.
    """
    height, width = x.shape[2:]
    out: Tensor = _Winograd.apply(x, weight, tile_side(height, width, x.dtype))
    return out


class _Winograd(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, m: int) -> Tensor:
        from barlowctl.kernels.winograd import (
            passes as winograd_passes,  # numba takes a second, which evaluation does not need
        )

        ctx.save_for_backward(x, weight)
        ctx.m = m
        return winograd_passes.convolve(x, weight, m, turned=False)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        from barlowctl.kernels.winograd import passes as winograd_passes

        x, weight = ctx.saved_tensors
        grad = grad.contiguous(memory_format=torch.channels_last)
        of_x = of_weight = None
        if ctx.needs_input_grad[0]:
            of_x = winograd_passes.convolve(grad, weight, ctx.m, turned=True)
        if ctx.needs_input_grad[1]:
            of_weight = winograd_passes.gradient_of_weight(x, grad, ctx.m)
        return of_x, of_weight, None
