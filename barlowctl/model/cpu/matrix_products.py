"""A convolution as one product of matrices: rows are what the pixels of the result see, patches of the map."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from barlowctl.model.cpu import pixel_products
from barlowctl.model.cpu.convolution_ways import FEWEST_IMAGES, Way
from barlowctl.own_gradients import once_differentiable

PATCHES = 16 * 2**20
"""Bytes of patches that are cut out at a time for the gradient of a weight."""


class Product(torch.autograd.Function):
    """The convolution of x `(n, c, h, w)` in channels_last with weight `(d, c, k, l)`, without a bias.

    Patches are cut out again in the backward pass instead of being kept. The gradient of x is oneDNN's where they
    overlap: adding products up to it takes as long.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, stride: tuple[int, int], padding: tuple[int, int], way: Way
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.padding, ctx.way = stride, padding, way
        if way == Way.WEIGHTS:
            return nn.functional.conv2d(x, weight, None, stride, padding)
        kernel = weight.shape[2:]
        size = (len(x), len(weight), *pixel_products.map_of(x.shape[2:], kernel, stride, padding))
        out = torch.empty(size, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)
        torch.mm(patches_of(x, kernel, stride, padding), matrix_of(weight).t(), out=rows_of(out))
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        stride, padding, kernel = ctx.stride, ctx.padding, weight.shape[2:]
        grad = grad.contiguous(memory_format=torch.channels_last)
        of_x = of_weight = None
        if ctx.needs_input_grad[0]:
            if max(kernel) > 1 or ctx.way == Way.WEIGHTS:
                of_x = _gradient_of_input(grad, x, weight, stride, padding)
            else:
                of_x = _spread(rows_of(grad) @ matrix_of(weight), x, stride)
        if ctx.needs_input_grad[1]:
            of_matrix = _gradient_of_matrix(grad, x, kernel, stride, padding)
            of_weight = of_matrix.view(len(weight), *kernel, -1).permute(0, 3, 1, 2)
        return of_x, of_weight, None, None, None


def rows_of(x: Tensor) -> Tensor:
    """`(n, c, h, w)` in channels_last as `(n h w, c)`, in the same memory."""
    return x.permute(0, 2, 3, 1).view(-1, x.shape[1])


def matrix_of(weight: Tensor) -> Tensor:
    """`(d, c, k, l)` as `(d, k l c)`, in the same memory where that is channels_last."""
    return weight.permute(0, 2, 3, 1).reshape(len(weight), -1)


def patches_of(x: Tensor, kernel: Sequence[int], stride: tuple[int, int], padding: tuple[int, int]) -> Tensor:
    """What each pixel of the result sees, `(pixels, k l c)`; of a 1 x 1 kernel without a stride, x itself."""
    images = x.permute(0, 2, 3, 1)
    if max(padding):
        images = nn.functional.pad(images, (0, 0, padding[1], padding[1], padding[0], padding[0]))
    n, *size, c = images.shape
    height, width = pixel_products.map_of(size, kernel, stride, (0, 0))
    image, row, column, _ = images.stride()
    strides = (image, row * stride[0], column * stride[1], row, column, 1)
    return images.as_strided((n, height, width, *kernel, c), strides).reshape(n * height * width, -1)


def _gradient_of_matrix(
    grad: Tensor, x: Tensor, kernel: Sequence[int], stride: tuple[int, int], padding: tuple[int, int]
) -> Tensor:
    """The gradient of `matrix_of` the weight. In float32 patches of some images at a time are cut out, and summed."""
    images = len(x)
    if x.dtype == torch.float32 and max(kernel) > 1:
        of_image = 4 * grad[0, 0].numel() * x.shape[1] * kernel[0] * kernel[1]
        images = max(FEWEST_IMAGES, PATCHES // of_image)
    total = rows_of(grad[:images]).t() @ patches_of(x[:images], kernel, stride, padding)
    for first in range(images, len(x), images):
        some = slice(first, first + images)
        total.addmm_(rows_of(grad[some]).t(), patches_of(x[some], kernel, stride, padding))
    return total


def _gradient_of_input(
    grad: Tensor, x: Tensor, weight: Tensor, stride: tuple[int, int], padding: tuple[int, int]
) -> Tensor:
    of_x: Tensor = torch.ops.aten.convolution_backward(
        grad, x, weight, None, stride, padding, (1, 1), False, (0, 0), 1, (True, False, False)
    )[0]
    return of_x


def _spread(rows: Tensor, x: Tensor, stride: tuple[int, int]) -> Tensor:
    """The gradient of x: what `rows` say of the pixels that a 1 x 1 kernel sees, and zero elsewhere."""
    n, c, height, width = x.shape
    if max(stride) == 1:
        return rows.view(n, height, width, c).permute(0, 3, 1, 2)
    of_x = torch.zeros_like(x)
    seen = of_x[:, :, :: stride[0], :: stride[1]]
    seen.copy_(rows.view(n, *seen.shape[2:], c).permute(0, 3, 1, 2))
    return of_x
