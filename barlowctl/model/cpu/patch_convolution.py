"""Convolutions with a bias of patches that do not overlap, as products of rows in bf16; see `tile_rows`.

They are 1 x 1 in ConvNeXt's and EfficientNet's blocks, and larger between ConvNeXt's stages and where a transformer
cuts its images into patches.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from barlowctl.model.cpu import tile_products, tile_rows
from barlowctl.model.cpu.matrix_products import matrix_of
from barlowctl.model.cpu.seen_taps import SeenTaps, in_bf16


class PatchConvolution(SeenTaps):
    """A convolution with a bias whose stride is its kernel, in training and in bf16 on a CPU; all else is torch's own.

    Neither the bias nor the gradients of it and of the weight are rounded to bf16.
    """

    def forward(self, x: Tensor) -> Tensor:
        """See `nn.Conv2d`."""
        if not self.training or torch.compiler.is_compiling() or not self._takes(x):
            return super().forward(x)
        height, width = (size // step for size, step in zip(x.shape[2:], self.kernel_size, strict=True))
        rows = _patches(x.to(torch.bfloat16), height, width)
        out = tile_rows.multiply(rows, matrix_of(self.weight), self.bias)
        return out.view(len(x), height, width, -1).permute(0, 3, 1, 2)

    def _takes(self, x: Tensor) -> bool:
        if not in_bf16(x) or not x.is_contiguous(memory_format=torch.channels_last):
            return False
        whole = all(size % step == 0 for size, step in zip(x.shape[2:], self.kernel_size, strict=True))
        takes_bias = cast(Tensor, self.bias).dtype == torch.float32
        return whole and takes_bias and tile_rows.takes(self.weight, x)


def choose_patch_convolutions(network: nn.Module) -> None:
    """Let such convolutions be computed so where products of rows take a bias; names, parameters and hooks stay."""
    for part in network.modules():
        if type(part) is nn.Conv2d and _is_of_patches(part):
            part.__class__ = PatchConvolution


def prepare_patch_convolutions(network: nn.Module, dtype: torch.dtype) -> None:
    """Compile what computes them in a number format: see `prepare_convolutions`."""
    chosen = any(isinstance(part, PatchConvolution) for part in network.modules())
    if chosen and dtype == torch.bfloat16 and tile_products.is_usable():
        tile_rows.prepare()


def _is_of_patches(convolution: nn.Conv2d) -> bool:
    plain = convolution.groups == 1 and convolution.dilation == (1, 1) and convolution.padding in ((0, 0), "valid")
    return plain and convolution.bias is not None and convolution.stride == convolution.kernel_size


def _patches(x: Tensor, height: int, width: int) -> Tensor:
    """x `(n, c, h, w)` in channels_last as `(n height width, k l c)`: its patches, row by row; 1 x 1 in x's memory."""
    n, c, *size = x.shape
    images = x.permute(0, 2, 3, 1).reshape(n, height, size[0] // height, width, size[1] // width, c)
    return images.transpose(2, 3).reshape(n * height * width, -1)
