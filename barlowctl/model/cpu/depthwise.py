"""Depthwise convolutions, of each channel by itself, whose gradients a CPU computes by kernels of ours.

oneDNN's take 4 to 75 times as long in bf16 where there is a stride or a kernel larger than 3 x 3, and 1.7 to 6 times in
float32 of the latter; its results, and the rest, it has faster. What was measured is in docs/experiments.md; the
kernels are in `depthwise.loops`.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor, nn

from barlowctl.kernels import scratchpad, thread_team
from barlowctl.kernels.number_formats import LIKE
from barlowctl.model.cpu.pixel_products import map_of
from barlowctl.model.cpu.seen_taps import SeenTaps, in_bf16, in_fp32
from barlowctl.own_gradients import once_differentiable

IN_CACHE = 3 * 2**18
"""Bytes that are laid out at a time, in the processor's second cache, where a map's smallest strip is not larger."""
GROUPS = 16
"""Of images, whose shares of the gradient of a weight are summed by themselves, whatever the number of threads."""
Sides = tuple[int, int]


class DepthwiseConvolution(SeenTaps):
    """A convolution of each channel by itself, of maps in channels_last, whose gradients our kernels compute.

    Sums are float32's; the gradient of the map is rounded once, that of the weight is not; both are the same on any
    number of threads. All else is torch's own.
    """

    def forward(self, x: Tensor) -> Tensor:
        """See `nn.Conv2d`."""
        dtype = torch.bfloat16 if in_bf16(x) else torch.float32 if in_fp32(x) else None
        if dtype is None or not self.training or torch.compiler.is_compiling():
            return super().forward(x)
        if not is_faster(self.kernel_size, self.stride, dtype) or not self._takes(x):
            return super().forward(x)
        with torch.autocast("cpu", enabled=False):
            return convolve(x.to(dtype), self.weight, self.bias, *self._steps())

    def _takes(self, x: Tensor) -> bool:
        plain = type(x) is Tensor and type(self.weight.detach()) is Tensor and self.weight.dtype == torch.float32
        filled = len(x) > 0 and min(map_of(x.shape[2:], self.kernel_size, *self._steps())) > 0
        in_rows = x.is_contiguous(memory_format=torch.channels_last)
        return plain and filled and in_rows and thread_team.serves() and fits(self.in_channels)

    def _steps(self) -> tuple[Sides, Sides]:
        """Stride and padding, of height and width each."""
        return cast(Sides, self.stride), cast(Sides, self.padding)


def is_faster(kernel: tuple[int, ...], stride: tuple[int, ...], dtype: torch.dtype) -> bool:
    """Whether gradients are faster here than oneDNN's."""
    return max(kernel) > 3 or (dtype == torch.bfloat16 and max(stride) > 1)


def fits(channels: int) -> bool:
    """Whether so many channels fill a vector."""
    from barlowctl.kernels.float_vectors import LANES  # numba takes a second, which evaluation does not need

    return channels >= LANES


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None, stride: Sides, padding: Sides) -> Tensor:
    """The convolution of each channel of x by itself.

    Args:
        x: bf16 or float32 `(n, c, h, w)` in channels_last. weight: float32 `(c, 1, k, l)`. bias: `(c,)`.
        padding: smaller than the kernel.

    Returns: `(n, c, h', w')` in channels_last, as x is.
    """
    out: Tensor = _Depthwise.apply(x, weight, bias, stride, padding)
    return out


class _Depthwise(torch.autograd.Function):
    """See `convolve`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, stride: Sides, padding: Sides) -> Tensor:
        rounded = weight.to(x.dtype)
        ctx.save_for_backward(x, rounded)
        ctx.stride, ctx.padding = stride, padding
        own = None if bias is None else bias.to(x.dtype)
        return nn.functional.conv2d(x, rounded, own, stride, padding, groups=len(weight))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        from barlowctl.kernels.depthwise import loops as kernels

        x, weight = ctx.saved_tensors
        grad = grad.contiguous(memory_format=torch.channels_last)
        taps = weight.float().flatten(1).t().contiguous()  # (k l, c)
        plan = plan_of(tuple(x.shape), tuple(weight.shape[2:]), ctx.stride, ctx.padding)
        tensors = {"x": x, "gradient": grad, "weights": taps}
        of_x = of_weight = of_bias = None
        if ctx.needs_input_grad[0]:
            tensors["y"] = of_x = torch.empty_like(x)
        if ctx.needs_input_grad[1]:
            tensors["of_weight"] = sums = torch.empty(plan.groups, *taps.shape, dtype=torch.float32)
        if ctx.needs_input_grad[0] or ctx.needs_input_grad[1]:
            _call(kernels.differentiating(x.dtype), plan, **tensors)
        if ctx.needs_input_grad[1]:
            of_weight = sums.sum(0).t().reshape(weight.shape)
        if ctx.needs_input_grad[2]:
            of_bias = grad.sum((0, 2, 3), dtype=torch.float32)
        return of_x, of_weight, of_bias, None, None


class Plan(NamedTuple):
    """What kernels are called with for a shape, except addresses. room: bytes that each thread has."""

    task: np.ndarray
    room: int
    groups: int


@lru_cache(maxsize=1024)
def plan_of(shape: tuple[int, ...], kernel: tuple[int, ...], stride: Sides, padding: Sides) -> Plan:
    """Of maps of a shape."""
    from barlowctl.kernels.depthwise.loops import task_of
    from barlowctl.kernels.float_vectors import LANES

    n, channels, height, width = shape
    high, wide = map_of((height, width), kernel, stride, padding)
    pixels = (height + 2 * padding[0]) * (width + 2 * padding[1])
    pixels += (height + kernel[0] - 1) * (width + kernel[1] - 1)
    most = channels // LANES
    vectors = max(1, min(most, IN_CACHE // (4 * LANES * pixels)))
    strips = -(-channels // (vectors * LANES))
    vectors = min(most, -(-channels // (strips * LANES)))  # as even as can be
    strip = vectors * LANES
    group = -(-n // GROUPS)
    task = task_of(
        images=n,
        group=group,
        channels=channels,
        strip=strip,
        strips=-(-channels // strip),
        height=height,
        width=width,
        high=high,
        wide=wide,
        kernel_height=kernel[0],
        kernel_width=kernel[1],
        stride_down=stride[0],
        stride_across=stride[1],
        top=padding[0],
        left=padding[1],
    )
    room = 4 * strip * (pixels + kernel[0] * kernel[1])
    return Plan(task, scratchpad.whole_lines(room), -(-n // group))


def _call(function: Any, plan: Plan, **tensors: Tensor) -> None:
    """Have all pieces done by torch's threads. tensors: by the fields of a task that have their addresses."""
    from barlowctl.kernels.depthwise import loops as kernels
    from barlowctl.kernels.thread_tiles import call

    team, task = thread_team.team(), plan.task.copy()
    for name, tensor in tensors.items():
        task[getattr(kernels, name.upper())] = tensor.data_ptr()
    (task[kernels.ROOM],), task[kernels.ROOM_SIZE] = scratchpad.take(team[1] * plan.room), plan.room
    call(team, function.address, task)


def choose_depthwise(network: nn.Module) -> None:
    """Let such convolutions be computed so on a CPU; names, parameters and hooks stay."""
    for part in network.modules():
        if type(part) in (nn.Conv2d, SeenTaps) and _is_depthwise(cast(nn.Conv2d, part)):
            part.__class__ = DepthwiseConvolution


def prepare_depthwise(network: nn.Module, dtype: torch.dtype) -> None:
    """Compile the kernels of the network's depthwise convolutions for maps in a number format.

    The first call ever takes seconds. Whoever times a step does this before.
    """
    parts = [part for part in network.modules() if isinstance(part, DepthwiseConvolution)]
    if dtype in LIKE and parts:
        width = max(part.in_channels for part in parts)
        if fits(width):
            x = torch.zeros(1, width, 1, 1, dtype=dtype, requires_grad=True)
            weight = torch.zeros(width, 1, 1, 1, dtype=torch.float32, requires_grad=True)
            convolve(x, weight, None, (1, 1), (0, 0)).sum().backward()


def _is_depthwise(convolution: nn.Conv2d) -> bool:
    """Whether it is a kernel larger than a pixel for each channel, with nothing that the kernels do not know of."""
    alone = convolution.groups == convolution.in_channels == convolution.out_channels > 1
    plain = convolution.dilation == (1, 1) and convolution.padding_mode == "zeros"
    if not alone or not plain or not isinstance(convolution.padding, tuple) or max(convolution.kernel_size) == 1:
        return False
    sides = zip(convolution.padding, convolution.kernel_size, strict=True)
    return all(margin < kernel for margin, kernel in sides)
