"""3 x 3 convolutions that a CPU computes with two thirds of the products, as Winograd did.

F(2, 3) along the lines of a map (Lavin and Gray 2016, in one of its two dimensions): both dimensions would take four
ninths, at an error in bf16 that is too large. What was measured is in docs/experiments.md.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

BLOCK = 64
"""Channels in and out are multiples of it, which is what the kernels multiply at a time."""
SMALLEST_MAP = 2
"""Pixels of a line from which on it is the faster way: of one alone nothing is saved."""
FEWEST_PIXELS = 512
"""Pixels of a batch from which on that makes up for the transformation of the weights."""
AT_ONCE = 48
"""Pairs of pixels of a line, of several images, that are multiplied by the weights at a time."""
SUMMED = 128
"""The same whose float32 sums stay in the processor's cache before they are written."""
CORRELATED = 512
"""Pairs of pixels of two images that are summed into the gradient of the weights at a time."""


def is_faster(x: Tensor, weight: Tensor) -> bool:
    """Whether a convolution that `fits` is the faster for it, which is with one thread, on some processors."""
    tensors = type(x) is Tensor and type(weight.detach()) is Tensor and weight.dtype == torch.float32
    many = len(x) * x.shape[2] * x.shape[3] >= FEWEST_PIXELS
    return many and tensors and torch.get_num_threads() == 1 and is_measured()


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
    """Compile the kernels: the first call ever takes seconds."""
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
        from barlowctl.model import winograd_kernels

        d, c = weight.shape[:2]
        matrices = np.empty((d // BLOCK, 4, 3, c // 2, BLOCK), np.uint32)
        winograd_kernels.transform_weights(_lines(weight), np.empty(12 * 16 * c, np.uint16), matrices)
        ctx.save_for_backward(x, weight)
        return _convolve(x, matrices, d)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        from barlowctl.model import winograd_kernels

        x, weight = ctx.saved_tensors
        d, c = weight.shape[:2]
        grad = grad.contiguous(memory_format=torch.channels_last)
        of_x = of_weight = None
        if ctx.needs_input_grad[0]:
            matrices = np.empty((c // BLOCK, 4, 3, d // 2, BLOCK), np.uint32)
            winograd_kernels.transform_turned_weights(_lines(weight), matrices)
            of_x = _convolve(grad, matrices, c)
        if ctx.needs_input_grad[1]:
            of_weight = _gradient_of_weight(x, grad)
        return of_x, of_weight


def _lines(weight: Tensor) -> Any:
    """`(d, 3, 3, c)`, a copy of the memory where that is not channels_last."""
    return weight.detach().permute(0, 2, 3, 1).contiguous().numpy()


def _convolve(x: Tensor, matrices: Any, d: int) -> Tensor:
    from barlowctl.model import winograd_kernels

    n, c, height, width = x.shape
    tiles = (width + 1) // 2
    group = min(n, max(1, AT_ONCE // tiles))
    lines = min(height, max(1, SUMMED // (group * tiles)))
    y = torch.empty((n, d, height, width), dtype=x.dtype, memory_format=torch.channels_last)
    transformed = torch.empty(4 * height * group * tiles * c, dtype=x.dtype)
    products, zeros = torch.empty(4 * lines * group * tiles * BLOCK), torch.zeros(c, dtype=x.dtype)
    winograd_kernels.convolve(
        x.data_ptr(),
        matrices.ctypes.data,
        y.data_ptr(),
        zeros.data_ptr(),
        transformed.data_ptr(),
        products.data_ptr(),
        (n, height, width, c, d),
        group,
        lines,
    )
    return y


def _gradient_of_weight(x: Tensor, grad: Tensor) -> Tensor:
    from barlowctl.model import winograd_kernels

    (n, c, height, width), d = x.shape, grad.shape[1]
    tiles = (width + 1) // 2
    lines = min(height, max(1, CORRELATED // tiles))
    group = min((n + 1) // 2, max(1, CORRELATED // (lines * tiles)))
    inputs = torch.empty(4 * c * (lines + 2) * group * tiles * 2, dtype=x.dtype)
    gradients = torch.empty(4 * d * lines * group * tiles * 2, dtype=x.dtype)
    zeros, products = torch.zeros(max(c, d), dtype=x.dtype), np.zeros((4, 3, d, c), np.float32)
    winograd_kernels.correlate(
        x.data_ptr(),
        grad.data_ptr(),
        zeros.data_ptr(),
        inputs.data_ptr(),
        gradients.data_ptr(),
        products.ctypes.data,
        (n, height, width, c, d),
        group,
        lines,
    )
    of_weight = np.empty((d, 3, 3, c), np.float32)
    winograd_kernels.gather_gradient(products, of_weight)
    return torch.from_numpy(of_weight).permute(0, 3, 1, 2)
