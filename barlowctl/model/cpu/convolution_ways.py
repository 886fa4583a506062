"""Which convolutions are products of matrices on a CPU, by what its processor is fast at.

In float32 MKL's products on Intel's processors are as fast as oneDNN's convolutions, so that small maps pay. Where a
processor has no AVX-512 (AMD's to Zen 3, Intel's of laptops and desktops) oneDNN's gradient of a weight is at half of
the machine's peak, and MKL's product at four fifths: measured on Zen 3. In bfloat16 it depends on whether the
processor multiplies tiles of matrices (Intel's AMX) or vectors (AVX-512's bf16: measured on Zen 4). The numbers are in
docs/experiments.md.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Any, NamedTuple

import torch

from barlowctl import processor
from barlowctl.model.cpu import tile_products

FEWEST_IMAGES = 32
"""Of a batch: with fewer, products for each pixel, of so few rows, cost what oneDNN's convolutions do."""
SMALL_MAP = 8
"""In bf16, side in pixels of the largest result that a 1 x 1 convolution without a stride has as a product."""
SMALLEST_MAP = 4
"""The same of larger kernels, and the channels from which on: below that a product costs what the convolution does."""
MANY_CHANNELS = 128


class Way(Enum):
    """How a convolution is computed: its result, and both of its gradients."""

    TORCHS = auto()
    WEIGHTS = auto()
    """The gradient of the weight is a product; the rest is oneDNN's."""
    PRODUCT = auto()
    """One product of matrices. The gradient of the input is oneDNN's where a kernel's patches overlap."""
    PIXELS = auto()
    """A product for each pixel of the result: see `pixel_products`."""


def way_of(kernel: tuple[int, ...], strided: bool, side: int, channels: int, images: int) -> Way:
    """The fastest way of a convolution in float32 that is not Winograd's.

    Args:
        kernel: its sides. side: of the result, the longer one in pixels. channels: of those in and out the fewer.
        images: of the batch; 0 where a pixel of the result sees the padding alone.
    """
    if not _computes_in_float32() or not torch.backends.mkl.is_available():
        return Way.TORCHS
    many_images, pointwise = images >= FEWEST_IMAGES, max(kernel) == 1
    if processor.is_intels():
        if not pointwise and side <= (4 if strided else 2) and channels >= 64 and many_images:
            return Way.PIXELS
        if (side <= 8 and channels >= 128) or (pointwise and strided and side <= 5 and channels >= 32):
            return Way.PRODUCT
    if not lacks_avx512():
        return Way.TORCHS
    return _without_avx512(pointwise, strided, side, channels, many_images)


def _without_avx512(pointwise: bool, strided: bool, side: int, channels: int, many_images: bool) -> Way:
    if pointwise:
        if (side <= 3 and channels >= 32) or (strided and (channels >= 64 or (side <= 6 and channels >= 32))):
            return Way.PRODUCT
        return Way.WEIGHTS if channels >= 64 else Way.TORCHS
    fewest = 128 if strided and side > 1 else 64
    if side <= 2 and channels >= fewest and many_images:
        return Way.PIXELS
    if not strided or channels < 128:
        return Way.TORCHS
    return Way.PRODUCT if side <= 4 and channels >= 512 else Way.WEIGHTS


class Passes(NamedTuple):
    """Which passes of a convolution are computed as `tile_products` are; the others are oneDNN's."""

    forward: bool
    of_input: bool
    of_weight: bool


def passes_by_tiles(strided: bool, side: int, channels: int) -> Passes:
    """Those of a convolution in bf16, of a kernel larger than 1 x 1, that are faster so where products are usable.

    side, channels: as in `way_of`.
    """
    if tile_products.has_tiles():
        forward = (side <= 4 and channels >= 64) or (side <= 7 and channels >= 256)
        of_weight = side <= 8 or (side <= 16 and channels >= 64)
        return Passes(forward, side <= 12 if strided else forward, of_weight)
    small = side <= 3
    if not strided:
        return Passes(small, small, small)  # else Winograd's are as fast
    return Passes(small or (side <= 4 and channels >= 256), side <= 8, side <= 12)


def way_in_bf16(kernel: tuple[int, ...], strided: bool, side: int, inputs: int, channels: int) -> Way:
    """The fastest way of a convolution in bf16 that is neither Winograd's nor one of `tile_products`.

    Args:
        kernel, side, channels: as in `way_of`. inputs: channels of the map.
    """
    if max(kernel) == 1:
        product = strided or side <= SMALL_MAP or has_fast_products(channels, torch.bfloat16)
    else:
        product = side <= SMALLEST_MAP and inputs >= MANY_CHANNELS
    return Way.PRODUCT if product else Way.TORCHS


def has_fast_products(channels: int, dtype: torch.dtype) -> bool:
    """Whether products are as fast as oneDNN's 1 x 1 convolutions of so many channels, whatever the map."""
    if channels < 64:
        return False
    if dtype == torch.bfloat16:
        return tile_products.is_usable()
    return _computes_in_float32() and torch.backends.mkl.is_available() and processor.is_intels()


def lacks_avx512() -> bool:
    """Whether torch computes with x86's vectors of 256 bits (AVX2), and has none of 512."""
    return torch.backends.cpu.get_cpu_capability() == "AVX2"


def _computes_in_float32() -> bool:
    """Whether a product of float32 matrices is one in float32."""
    mkldnn: Any = torch.backends.mkldnn
    return mkldnn.matmul.fp32_precision in {"none", "ieee"}
