"""Convolutions of maps so small that some taps of the kernel see nothing but padding, such as 3 x 3 on one pixel.

The gradient of those taps is zero. In bf16 on a CPU oneDNN leaves there what lay in memory (torch 2.15: on a map of one
pixel with a stride of 2, or 7 x 7 on two pixels), so that weights become infinite, and the loss, which they do not
reach, says nothing of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

CONVOLUTIONS = {torch.conv1d, torch.conv2d, torch.conv3d}
NAMES = {"conv1d", "conv2d", "conv3d"}  # by which a module's own methods call them


class SeenTaps(nn.Conv2d):
    """A convolution that is computed without the taps that see padding alone, in training and in bf16 on a CPU.

    The result is the same. All else is torch's own.
    """

    def forward(self, x: Tensor) -> Tensor:
        """See `nn.Conv2d`."""
        reach = (max(self.kernel_size) - 1) * max(self.dilation)
        if not self.training or min(x.shape[2:]) > reach or not in_bf16(x):
            return super().forward(x)
        return _convolve(torch.conv2d, x, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


class _CallsConvolutions(nn.Module):
    """In front of a class of modules that compute convolutions in their own way, or have more or fewer than two sides.

    In training all that they call goes without the taps that see padding alone.
    """

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """See the class behind this one."""
        in_bf16 = torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16
        if not self.training or torch.compiler.is_compiling() or not in_bf16:
            return super().forward(*args, **kwargs)
        with _WithoutUnseenTaps():
            return super().forward(*args, **kwargs)


class _WithoutUnseenTaps(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in CONVOLUTIONS:
            return _convolve(func, *args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def _convolve(
    convolution: Any,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | Sequence[int] = 1,
    padding: str | int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
) -> Tensor:
    """torch's `convolution` of those arguments, whose names and defaults these are, without taps that see nothing."""
    sides = weight.ndim - 2
    steps, spread = _each(stride, sides), _each(dilation, sides)
    reach = [(kernel - 1) * step for kernel, step in zip(weight.shape[2:], spread, strict=True)]
    out: Tensor
    if input.ndim != weight.ndim or all(size > far for size, far in zip(input.shape[2:], reach, strict=True)):
        out = convolution(input, weight, bias, stride, padding, dilation, groups)
        return out
    margins = {"valid": [0] * sides, "same": [far // 2 for far in reach]}
    before = margins[padding] if isinstance(padding, str) else _each(padding, sides)
    both = reach if padding == "same" else [2 * zeros for zeros in before]
    narrow, around = weight, list[int]()
    for side, (size, kernel) in enumerate(zip(input.shape[2:], weight.shape[2:], strict=True)):
        results = (size + both[side] - reach[side] - 1) // steps[side] + 1
        taps = seen(size, kernel, results, steps[side], before[side], spread[side])
        ahead = before[side] - taps.start * spread[side]
        width = (results - 1) * steps[side] + (len(taps) - 1) * spread[side] + 1
        around = [ahead, width - size - ahead, *around]  # the last side comes first
        narrow = narrow.narrow(2 + side, taps.start, len(taps))
    if narrow.shape == weight.shape:
        out = convolution(input, weight, bias, stride, padding, dilation, groups)
    else:
        out = convolution(nn.functional.pad(input, around), narrow, bias, stride, 0, dilation, groups)
    return out


def _each(value: int | Sequence[int], sides: int) -> list[int]:
    values = [value] if isinstance(value, int) else list(value)
    return values * sides if len(values) == 1 else values


def in_bf16(x: Tensor) -> bool:
    """Whether autocast has convolutions of x computed in bf16 on a CPU."""
    autocast = torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16
    return x.ndim == 4 and x.device.type == "cpu" and autocast


def in_fp32(x: Tensor) -> bool:
    """Whether convolutions of x are computed in float32 on a CPU."""
    return x.ndim == 4 and x.device.type == "cpu" and x.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")


def seen(size: int, kernel: int, results: int, stride: int, padding: int, dilation: int = 1) -> range:
    """The taps of a kernel from the first to the last one that sees a pixel of a map, along one side."""
    first = -(-(padding - (results - 1) * stride) // dilation)
    return range(max(0, first), min(kernel, (size - 1 + padding) // dilation + 1))


def leave_out_unseen_taps(parts: Iterable[nn.Module]) -> None:
    """Let convolutions that may meet a map smaller than their kernel go without taps that see padding alone.

    Those of torch's `Conv2d`, its subclasses, `Conv1d` and `Conv3d`, and of modules whose own methods call torch's
    functions. Names of classes, parameters and hooks stay.
    """
    for part in parts:
        if type(part) is nn.Conv2d:
            if max(part.kernel_size) > 1 and part.padding_mode == "zeros":
                part.__class__ = SeenTaps
        elif not isinstance(part, SeenTaps | _CallsConvolutions) and _calls_convolutions(type(part)):
            kind: Any = type(part)
            part.__class__ = _in_front_of(kind)


def _calls_convolutions(kind: type[nn.Module]) -> bool:
    if issubclass(kind, nn.Conv1d | nn.Conv2d | nn.Conv3d):
        return True
    own = (vars(base).values() for base in kind.__mro__ if not base.__module__.startswith("torch."))
    codes = (getattr(method, "__code__", None) for method in chain.from_iterable(own))
    return any(code is not None and not NAMES.isdisjoint(code.co_names) for code in codes)


@cache
def _in_front_of(kind: type[nn.Module]) -> type[nn.Module]:
    return type(kind.__name__, (_CallsConvolutions, kind), {"__module__": kind.__module__})
