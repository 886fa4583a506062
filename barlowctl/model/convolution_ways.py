"""Which convolutions in float32 are products of matrices on a CPU, by what its processor is fast at.

MKL's products on Intel's processors are as fast as oneDNN's convolutions, so that small maps pay. Where a processor has
no AVX-512 (AMD's to Zen 3, Intel's of laptops and desktops) oneDNN's gradient of a weight is at half of the machine's
peak, and MKL's product at four fifths: measured on Zen 3. The numbers are in docs/experiments.md.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Any

import torch

from barlowctl import processor

FEWEST_IMAGES = 32
"""Of a batch: with fewer, products for each pixel, of so few rows, cost what oneDNN's convolutions do."""


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


def has_fast_products(channels: int) -> bool:
    """Whether products in float32 are as fast as oneDNN's 1 x 1 convolutions of so many channels, whatever the map."""
    return channels >= 64 and _computes_in_float32() and torch.backends.mkl.is_available() and processor.is_intels()


def lacks_avx512() -> bool:
    """Whether torch computes with x86's vectors of 256 bits (AVX2), and has none of 512."""
    return torch.backends.cpu.get_cpu_capability() == "AVX2"


def _computes_in_float32() -> bool:
    """Whether a product of float32 matrices is one in float32."""
    mkldnn: Any = torch.backends.mkldnn
    return mkldnn.matmul.fp32_precision in {"none", "ieee"}
