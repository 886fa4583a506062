"""1 x 1 convolutions with a stride whose gradient oneDNN writes past the end of its memory.

Of fewer than 16 channels of a map in channels_last, the gradient of the weight ends the process, corrupts other memory,
or is wrong (torch 2.11 and 2.15; oneDNN's issue 6035). The pixels that such a convolution sees are therefore taken out
first and convolved without a stride: the same result. The first layers of RepVGG, MobileOne and FastViT are such.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Any, cast

from torch import Tensor, nn

BLOCK = 16
"""Channels from which on oneDNN has what it needs, on processors with AVX-512; with AVX2 it is 8."""


def is_miscomputed(convolution: nn.Conv2d) -> bool:
    """Whether the gradient of the convolution's weight may be written past the end, in channels_last on a CPU."""
    strided = convolution.kernel_size == (1, 1) and max(convolution.stride) > 1 and convolution.padding == (0, 0)
    return strided and convolution.groups == 1 and convolution.in_channels < BLOCK


def seen_pixels(x: Tensor, stride: tuple[int, ...]) -> Tensor:
    """The pixels of x `(n, c, h, w)` that a 1 x 1 convolution with that stride sees."""
    return x[:, :, :: stride[0], :: stride[1]]


class _OfSeenPixels(nn.Module):
    """In front of the class of a convolution, to which it seems to have no stride."""

    @property
    def stride(self) -> tuple[int, int]:
        return (1, 1)

    def forward(self, x: Tensor) -> Any:
        """See the class behind this one."""
        return super().forward(seen_pixels(x, vars(self)["stride"]))


def take_seen_pixels_first(parts: Iterable[nn.Module]) -> None:
    """Let convolutions that are miscomputed take out the pixels that they see first. Parameters and hooks stay."""
    for part in parts:
        if isinstance(part, nn.Conv2d) and is_miscomputed(part):
            cast(Any, part).__class__ = _in_front_of(cast(Any, type(part)))


@cache
def _in_front_of(kind: type[nn.Module]) -> type[nn.Module]:
    return type(kind.__name__, (_OfSeenPixels, kind), {"__module__": kind.__module__})
