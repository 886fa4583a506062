"""3 x 3 convolutions that a CPU computes with two thirds of the products, as Winograd did.

F(2, 3) along the lines of a map (Lavin and Gray 2016, in one of its two dimensions): both dimensions would take four
ninths, at an error in bf16 that is too large. What was measured is in docs/experiments.md.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from barlowctl.model import thread_team

BLOCK = 64
"""Channels in and out are multiples of it, which is what the kernels multiply at a time."""
SMALLEST_MAP = 2
"""Pixels of a line from which on it is the faster way: of one alone nothing is saved."""
FEWEST_PIXELS = 512
"""Pixels of a batch from which on that makes up for the transformation of the weights."""


def is_faster(x: Tensor, weight: Tensor) -> bool:
    """Whether a convolution that `fits` is the faster for it, which it is on some processors."""
    tensors = type(x) is Tensor and type(weight.detach()) is Tensor and weight.dtype == torch.float32
    many = len(x) * x.shape[2] * x.shape[3] >= FEWEST_PIXELS
    return many and tensors and is_usable()


def is_usable() -> bool:
    """Whether its kernels are the faster ones on this processor, and have the threads that torch computes with."""
    return thread_team.serves() and is_measured()


def fits(weight: Tensor, width: int) -> bool:
    """Whether a convolution of a map of that width, of stride 1, padding 1 and one group, has products to save."""
    blocks = weight.shape[2:] == (3, 3) and weight.shape[0] % BLOCK == 0 and weight.shape[1] % BLOCK == 0
    return blocks and width >= SMALLEST_MAP


@cache
def is_measured() -> bool:
    """Whether the processor multiplies bfloat16 in vectors of 512 bits, and not in whole matrices (AMX)."""
    from barlowctl.model import winograd_vectors  # numba takes a second, which evaluation does not need

    return winograd_vectors.NATIVE and not winograd_vectors.FEATURES.get("amx-bf16", False)


def prepare() -> None:
    """Compile the kernels, for as many threads as compute: the first call ever takes seconds."""
    x = torch.zeros(1, BLOCK, 4, 4, dtype=torch.bfloat16).to(memory_format=torch.channels_last).requires_grad_()
    convolve(x, torch.zeros(BLOCK, BLOCK, 3, 3, requires_grad=True)).sum().backward()


def convolve(x: Tensor, weight: Tensor) -> Tensor:
    """The 3 x 3 convolution of x, bf16 `(n, c, h, w)` in channels_last, with a padding of 1 and no bias.

    Args:
        weight: float32 `(d, c, 3, 3)`; c and d are multiples of 64. Transformed, it is rounded to bf16.

    Returns:
        bf16 `(n, d, h, w)` in channels_last. The gradient of the weight is float32 and not rounded to bf16.
    """
    out: Tensor = _Winograd.apply(x, weight)
    return out


class _Winograd(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        from barlowctl.model import winograd_passes  # numba takes a second, which evaluation does not need

        ctx.save_for_backward(x, weight)
        return winograd_passes.convolve(x, winograd_passes.transform_weights(weight, turned=False), len(weight))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        from barlowctl.model import winograd_passes

        x, weight = ctx.saved_tensors
        grad = grad.contiguous(memory_format=torch.channels_last)
        of_x = of_weight = None
        if ctx.needs_input_grad[0]:
            matrices = winograd_passes.transform_weights(weight, turned=True)
            of_x = winograd_passes.convolve(grad, matrices, x.shape[1])
        if ctx.needs_input_grad[1]:
            of_weight = winograd_passes.gradient_of_weight(x, grad)
        return of_x, of_weight
