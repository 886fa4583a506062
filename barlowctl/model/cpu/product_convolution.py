"""Convolutions that a CPU computes faster as products of matrices, or with fewer products.

oneDNN's convolutions are near the machine's peak where maps are large. They are not where a 1 x 1 convolution has a
stride (most of what the backward pass does is zeros), and where maps are so small that many taps of a 3 x 3
kernel lie in the padding, of which each is multiplied. Fewer products are in winograd.py. What was
measured is in docs/experiments.md.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from barlowctl.model.cpu import pixel_products, tile_products, tile_rows, winograd
from barlowctl.model.cpu.convolution_ways import (
    Passes,
    Way,
    has_fast_products,
    passes_by_tiles,
    way_in_bf16,
    way_of,
)
from barlowctl.model.cpu.depthwise import choose_depthwise, prepare_depthwise
from barlowctl.model.cpu.matrix_products import Product
from barlowctl.model.cpu.patch_convolution import choose_patch_convolutions, prepare_patch_convolutions
from barlowctl.model.cpu.seen_taps import SeenTaps, in_bf16, in_fp32, leave_out_unseen_taps
from barlowctl.model.cpu.strided_pointwise import is_miscomputed, seen_pixels, take_seen_pixels_first
from barlowctl.modes import in_mode, is_watched

FORMATS = {"bf16": torch.bfloat16, "fp32": torch.float32}
"""Of precisions, those whose convolutions are computed here."""


class ProductConvolution(SeenTaps):
    """A convolution that is computed as a product of matrices, or as Winograd did, in training, where that is faster.

    Which are products depends on the processor (see convolution_ways.py). Results are equal up to the order of sums,
    which are rounded once, as oneDNN's are.
    Winograd's (see winograd.py) are of most 3 x 3 kernels: in bf16 they are nearer to the truth than oneDNN's, since
    weights are not rounded; in fp32 up to 4 times as far from it, by a millionth.
    All else is torch's own: evaluation, and a network that is compiled.
    """

    def forward(self, x: Tensor) -> Tensor:
        """See `nn.Conv2d`."""
        if not self.training or torch.compiler.is_compiling():
            return super().forward(x)
        dtype = torch.bfloat16 if in_bf16(x) else torch.float32 if in_fp32(x) else None
        if dtype is None or not x.is_contiguous(memory_format=torch.channels_last):
            return super().forward(x)
        if dtype == torch.bfloat16 and tile_products.fills_tiles(x):
            passes = self.passes_by_tiles(x)
            if any(passes):
                return tile_products.convolve(x.to(dtype), self.weight, *self._steps(), passes)
        if dtype == torch.bfloat16 and self.takes_rows(x):
            return tile_rows.convolve(x.to(dtype), self.weight, *self._steps())
        way = self._way_of(x, dtype)
        if way == Way.PIXELS:
            with torch.autocast("cpu", enabled=False):
                return pixel_products.convolve(x, self.weight, *self._steps())
        if self.fits_winograds(x, dtype) and winograd.is_faster(x, self.weight, dtype):
            return winograd.convolve(x.to(dtype), self.weight)
        if way == Way.TORCHS:
            return super().forward(x)
        return self._product(x, dtype, self._steps()[0], way)

    def takes_seen_pixels(self, x: Tensor) -> bool:
        """Whether `of_seen_pixels` stands for `forward(x)`: no hook looks on, and x is a map that is trained on."""
        strided = self.kernel_size == (1, 1) and max(self.stride) > 1
        if not strided or not self.training or not x.requires_grad or torch.compiler.is_compiling() or is_watched(self):
            return False
        return (in_bf16(x) or in_fp32(x)) and x.is_contiguous(memory_format=torch.channels_last)

    def takes_shortcut(self, x: Tensor) -> bool:
        """Whether a product stands for `forward(x)`, 1 x 1 without a stride, that adds to a shortcut's gradient.

        Where products of large maps, too, are as fast as convolutions: a pass over memory is left out.
        """
        plain = self.kernel_size == self.stride == (1, 1)
        if not plain or not self.training or not x.requires_grad or torch.compiler.is_compiling() or is_watched(self):
            return False
        tensors = type(x) is Tensor and type(self.weight.detach()) is Tensor and self.weight.dtype == torch.float32
        computed = in_fp32(x) or (in_bf16(x) and x.dtype == torch.bfloat16)
        in_rows = computed and x.is_contiguous(memory_format=torch.channels_last)
        return tensors and in_rows and has_fast_products(min(self.in_channels, self.out_channels), x.dtype)

    def of_seen_pixels(self, seen: Tensor) -> Tensor:
        """The convolution, 1 x 1 with a stride, of a map of the pixels that it sees, in channels_last."""
        dtype = torch.bfloat16 if in_bf16(seen) else torch.float32
        if dtype == torch.bfloat16 and tile_rows.takes(self.weight, seen):
            return tile_rows.convolve(seen.to(dtype), self.weight, (1, 1), (0, 0))
        side, fewest = max(seen.shape[2:]), min(self.in_channels, self.out_channels)
        if dtype == torch.bfloat16:
            way = way_in_bf16((1, 1), False, side, self.in_channels, fewest)
        else:
            way = way_of((1, 1), True, side, fewest, len(seen))
        if way == Way.TORCHS:
            return nn.functional.conv2d(seen, self.weight)
        return self._product(seen, dtype, (1, 1), way)

    def _product(self, x: Tensor, dtype: torch.dtype, stride: tuple[int, int], way: Way) -> Tensor:
        with torch.autocast("cpu", enabled=False):
            out: Tensor = Product.apply(x.to(dtype), self.weight.to(dtype), stride, self._steps()[1], way)
        return out

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if is_miscomputed(self):
            return nn.functional.conv2d(seen_pixels(input, self.stride), weight, bias)
        return super()._conv_forward(input, weight, bias)

    def fits_winograds(self, x: Tensor, dtype: torch.dtype) -> bool:
        """Whether x, in a batch that is large enough, is convolved as Winograd did where that is the faster way."""
        height, width = x.shape[2:]
        return self.stride == self.padding == (1, 1) and winograd.fits(self.weight, height, width, dtype)

    def _way_of(self, x: Tensor, dtype: torch.dtype) -> Way:
        """How it is computed, if neither as Winograd did nor by tiles."""
        side, fewest, strided = max(self._map(x)), min(self.in_channels, self.out_channels), max(self.stride) > 1
        if dtype == torch.float32:
            return way_of(self.kernel_size, strided, side, fewest, len(x) if self._sees_all(x) else 0)
        return way_in_bf16(self.kernel_size, strided, side, self.in_channels, fewest)

    def passes_by_tiles(self, x: Tensor) -> Passes:
        """Which passes of maps like x `tile_products` compute in bf16, in a batch that is large enough."""
        if max(self.kernel_size) == 1 or not tile_products.takes(self.weight):
            return Passes(False, False, False)
        fewest = min(self.in_channels, self.out_channels)
        return passes_by_tiles(max(self.stride) > 1, max(self._map(x)), fewest)

    def takes_rows(self, x: Tensor) -> bool:
        """Whether products of rows (`tile_rows`) stand for `forward(x)` in bf16, or for some of it.

        By tiles they do for the gradient of the weight of a first layer, too, whose channels are too few for oneDNN's.
        """
        pointwise = self.kernel_size == self.stride == (1, 1)
        first = self.in_channels < 4 and min(self.kernel_size) >= 5 and min(self.stride) > 1
        return tile_rows.takes(self.weight, x) and (pointwise or (first and tile_products.has_tiles()))

    def adds_in_rows(self, x: Tensor) -> bool:
        """Whether `tile_rows.branches` or `beside` stand for `forward(x)`, 1 x 1: both add to another gradient of x."""
        trained = self.training and x.requires_grad and not torch.compiler.is_compiling() and not is_watched(self)
        if max(self.kernel_size) > 1 or not trained or not in_bf16(x) or x.dtype != torch.bfloat16:
            return False
        height, width = self._map(x)
        whole = self.in_channels % tile_products.STEP == 0
        ours = whole and tile_rows.multiplies(len(x) * height * width, self.weight)
        return ours and x.is_contiguous(memory_format=torch.channels_last) and tile_rows.takes(self.weight, x)

    def _sees_all(self, x: Tensor) -> bool:
        """Whether each pixel of the result sees some of x, and not the padding alone."""
        sides = zip(x.shape[2:], self._map(x), self.kernel_size, *self._steps(), strict=True)
        return all(
            margin < kernel and stride * (last - 1) - margin < size for size, last, kernel, stride, margin in sides
        )

    def _map(self, x: Tensor) -> tuple[int, int]:
        """Height and width of the result."""
        return pixel_products.map_of(x.shape[2:], self.kernel_size, *self._steps())

    def _steps(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """Stride and padding, of height and width each."""
        return cast(tuple[int, int], self.stride), cast(tuple[int, int], self.padding)


def choose_convolutions(network: nn.Module, device: torch.device) -> None:
    """Let convolutions be computed as products on a CPU where that is faster; names, parameters and hooks stay.

    Depthwise ones have gradients of ours (see `depthwise`), and some with a bias are products (see
    `patch_convolution`). Of the others those that may meet a map smaller than their kernel go without taps that see
    padding alone.
    """
    if device.type != "cpu":
        return
    for part in network.modules():
        if type(part) is nn.Conv2d and _is_plain(part):
            part.__class__ = ProductConvolution
    choose_depthwise(network)
    choose_patch_convolutions(network)
    take_seen_pixels_first(part for part in network.modules() if not isinstance(part, ProductConvolution))
    leave_out_unseen_taps(network.modules())


def prepare_convolutions(network: nn.Module, images: Tensor, precision: str) -> None:
    """Compile what computes some of the network's convolutions, where it is used for such images, `(n, c, h, w)`.

    Whoever times a step in a precision does this before, with the threads of that step. To see how large its maps are
    the network evaluates the images.
    """
    convolutions = [part for part in network.modules() if isinstance(part, ProductConvolution)]
    dtype = FORMATS.get(precision)
    if dtype is not None:
        prepare_depthwise(network, dtype)
        prepare_patch_convolutions(network, dtype)
    if not convolutions or dtype is None:
        return
    by_winograd, by_tiles = winograd.is_usable(dtype), dtype == torch.bfloat16 and tile_products.is_usable()
    if not by_winograd and not by_tiles:
        return
    maps, of_tiles, of_rows = set[tuple[int, int]](), list[nn.Module](), list[nn.Module]()

    def look(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        convolution, (height, width) = cast(ProductConvolution, module), inputs[0].shape[2:]
        if by_tiles and any(convolution.passes_by_tiles(inputs[0])):
            of_tiles.append(convolution)
        elif by_tiles and max(convolution.kernel_size) == 1:
            of_rows.append(convolution)
        elif by_winograd and convolution.fits_winograds(inputs[0], dtype):
            maps.add((height, width))

    hooks = [part.register_forward_pre_hook(look) for part in convolutions]
    try:
        with in_mode(network, training=False), torch.no_grad():
            network(images)
    finally:
        for hook in hooks:
            hook.remove()
    if by_winograd:
        winograd.prepare(dtype, maps)
    if of_tiles:
        tile_products.prepare()
    if of_rows:
        tile_rows.prepare()


def _is_plain(convolution: nn.Conv2d) -> bool:
    """Whether it has nothing that a product would have to know of."""
    return (
        convolution.bias is None
        and convolution.groups == 1
        and convolution.dilation == (1, 1)
        and convolution.padding_mode == "zeros"
        and isinstance(convolution.padding, tuple)
        and (convolution.kernel_size != (1, 1) or convolution.padding == (0, 0))
    )
