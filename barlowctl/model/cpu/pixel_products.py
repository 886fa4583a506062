"""Convolutions of small maps as products of matrices, one for each pixel of the result and each row of the kernel.

Where the result has few pixels many of a kernel's taps see padding: of 3 x 3 with a stride of 2 on a map of 3 x 3
pixels 20 of 36. Here a pixel of the result is the product of what is seen of the map and of the taps that see it. These
factors are parts of the map and of the kernel as they lie in memory: what one row of the kernel sees of an image
in channels_last is one run of numbers, so that no patches are copied, neither forward nor for either gradient.

Products have as many rows as there are images, so that batches should not be small. What was measured is in
docs/experiments.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from barlowctl.own_gradients import once_differentiable


class _Product(NamedTuple):
    """Of one pixel of the result and one row of the kernel, offsets being numbers from the first of an image or kernel.

    first: whether it is the pixel's first. result: where the pixel lies. seen: where what is seen of the image lies.
    taps: where the taps lie that see it. pixels: how many there are.
    """

    first: bool
    result: int
    seen: int
    taps: int
    pixels: int


def convolve(x: Tensor, weight: Tensor, stride: tuple[int, int], padding: tuple[int, int]) -> Tensor:
    """The convolution of x `(n, c, h, w)` in channels_last with weight `(d, c, k, l)`, without a bias.

    Each pixel of the result sees at least one of the map. Gradients are those of the definition, too.

    Returns: `(n, d, h', w')` in channels_last, of x's dtype.
    """
    out: Tensor = _ForEachPixel.apply(x, weight, stride, padding)
    return out


class _ForEachPixel(torch.autograd.Function):
    """See `convolve`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: tuple[int, int], padding: tuple[int, int]) -> Tensor:
        weight = weight.contiguous(memory_format=torch.channels_last)
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.padding = stride, padding
        out = _empty((len(x), len(weight), *map_of(x.shape[2:], weight.shape[2:], stride, padding)), x)
        for first, result, seen, taps in _factors(out, x, weight, stride, padding):
            if first:
                torch.mm(seen, taps.t(), out=result)
            else:
                result.addmm_(seen, taps.t())
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        grad = grad.contiguous(memory_format=torch.channels_last)
        of_x = of_weight = None
        if ctx.needs_input_grad[0]:
            of_x = _empty(x.shape, grad).zero_()
            for _, result, seen, taps in _factors(grad, of_x, weight, ctx.stride, ctx.padding):
                seen.addmm_(result, taps)
        if ctx.needs_input_grad[1]:
            of_weight = _empty(weight.shape, grad).zero_()
            for _, result, seen, taps in _factors(grad, x, of_weight, ctx.stride, ctx.padding):
                taps.addmm_(result.t(), seen)
        return of_x, of_weight, None, None


def _empty(size: Any, like: Tensor) -> Tensor:
    return torch.empty(size, dtype=like.dtype, device=like.device, memory_format=torch.channels_last)


def _factors(
    result: Tensor, image: Tensor, weight: Tensor, stride: tuple[int, int], padding: tuple[int, int]
) -> Iterator[tuple[bool, Tensor, Tensor, Tensor]]:
    """Of each product: whether it is its pixel's first; the pixel `(n, d)`, what is seen `(n, m c)`, taps `(d, m c)`.

    All three are in the memory of the maps and the kernel, whose memory format is channels_last.
    """
    n, d = result.shape[:2]
    c = image.shape[1]
    each = [tensor[0].numel() for tensor in (result, image, weight)]
    starts = [tensor.storage_offset() for tensor in (result, image, weight)]
    for part in _products((c, *image.shape[2:]), (d, *weight.shape[2:]), tuple(result.shape[2:]), stride, padding):
        yield (
            part.first,
            result.as_strided((n, d), (each[0], 1), starts[0] + part.result),
            image.as_strided((n, part.pixels * c), (each[1], 1), starts[1] + part.seen),
            weight.as_strided((d, part.pixels * c), (each[2], 1), starts[2] + part.taps),
        )


@lru_cache(maxsize=256)
def _products(
    image: tuple[int, ...],
    kernel: tuple[int, ...],
    result: tuple[int, ...],
    stride: tuple[int, int],
    padding: tuple[int, int],
) -> list[_Product]:
    """All of a convolution. image: c, h, w. kernel: d, k, l. result: h', w'."""
    (c, _, width), (d, _, taps_in_row) = image, kernel
    rows, columns = (_spans(image[i + 1], kernel[i + 1], result[i], stride[i], padding[i]) for i in (0, 1))
    products = []
    for i, (top, first_row, height) in enumerate(rows):
        for j, (left, first_tap, pixels) in enumerate(columns):
            for row in range(height):
                seen = ((top + row) * width + left) * c
                taps = ((first_row + row) * taps_in_row + first_tap) * c
                products.append(_Product(row == 0, (i * result[1] + j) * d, seen, taps, pixels))
    return products


def _spans(size: int, kernel: int, results: int, stride: int, padding: int) -> list[tuple[int, int, int]]:
    """Along one side, of each pixel of the result: the first pixel that is seen, by which tap, and how many are."""
    starts = [stride * result - padding for result in range(results)]
    return [(max(start, 0), max(-start, 0), min(start + kernel, size) - max(start, 0)) for start in starts]


def map_of(size: Any, kernel: Any, stride: tuple[int, int], padding: tuple[int, int]) -> tuple[int, int]:
    """Height and width of the result, from those of the map and of the kernel."""
    height, width = ((size[i] + 2 * padding[i] - kernel[i]) // stride[i] + 1 for i in (0, 1))
    return height, width
