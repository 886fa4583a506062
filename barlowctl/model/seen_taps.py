"""Convolutions of maps so small that some taps of the kernel see nothing but padding, such as 3 x 3 on one pixel.

The gradient of those taps is zero. In bf16 on a CPU oneDNN leaves there what lay in memory (torch 2.15: on a map of one
pixel with a stride of 2, or 7 x 7 on two pixels), so that weights become infinite, and the loss, which they do not
reach, says nothing of it.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn


class SeenTaps(nn.Conv2d):
    """A convolution that is computed without the taps that see padding alone, in training and in bf16 on a CPU.

    The result is the same. All else is torch's own.
    """

    def forward(self, x: Tensor) -> Tensor:
        """See `nn.Conv2d`."""
        if not self.training or min(x.shape[2:]) >= max(self.kernel_size) or not in_bf16(x):
            return super().forward(x)
        stride, padding = cast(tuple[int, int], self.stride), cast(tuple[int, int], self.padding)
        sides = list(zip(x.shape[2:], self.kernel_size, stride, padding, strict=True))
        taps = [seen(*side) for side in sides]
        if [len(side) for side in taps] == list(self.kernel_size):
            return super().forward(x)
        weight, around = self.weight, list[int]()
        for dim, (size, kernel, step, zeros) in enumerate(sides):
            first, count = taps[dim].start, len(taps[dim])
            results = (size + 2 * zeros - kernel) // step + 1
            before = zeros - first
            around = [before, (results - 1) * step + count - size - before, *around]  # the last side comes first
            weight = weight.narrow(2 + dim, first, count)
        return nn.functional.conv2d(nn.functional.pad(x, around), weight, self.bias, stride, 0, 1, self.groups)


def in_bf16(x: Tensor) -> bool:
    """Whether autocast has convolutions of x computed in bf16 on a CPU."""
    autocast = torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16
    return x.ndim == 4 and x.device.type == "cpu" and autocast


def seen(size: int, kernel: int, stride: int, padding: int) -> range:
    """The taps of a kernel from the first to the last one that sees a pixel of a map, along one side."""
    results = (size + 2 * padding - kernel) // stride + 1
    return range(max(0, padding - (results - 1) * stride), min(kernel, size + padding))


def takes(convolution: nn.Conv2d) -> bool:
    """Whether a convolution may have taps that see nothing, and has nothing that `SeenTaps` would have to know of."""
    zeros = convolution.padding_mode == "zeros" and isinstance(convolution.padding, tuple)
    return zeros and convolution.dilation == (1, 1) and max(convolution.kernel_size) > 1
