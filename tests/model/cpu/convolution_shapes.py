"""Convolutions that tests of the processor's tiles share: their sizes, and numbers drawn for them."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from barlowctl.model.cpu.pixel_products import map_of


class Shape(NamedTuple):
    """By default 3 x 3."""

    images: int
    channels: int
    out: int
    size: tuple[int, int]
    kernel: tuple[int, int] = (3, 3)
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (1, 1)


def drawn(shape: Shape) -> tuple[Tensor, Tensor, Tensor]:
    """A map and a weight, of which all numbers are bfloat16's, and the gradient of the result."""
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(shape.images, shape.channels, *shape.size, generator=generator).bfloat16()
    weight = torch.randn(shape.out, shape.channels, *shape.kernel, generator=generator).bfloat16().float()
    size = map_of(shape.size, shape.kernel, shape.stride, shape.padding)
    grad = torch.randn(shape.images, shape.out, *size, generator=generator).bfloat16()
    x, weight, grad = (part.contiguous(memory_format=torch.channels_last) for part in (x, weight, grad))
    return x, weight, grad
