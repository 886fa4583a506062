"""Squeeze-and-excitation whose passes over a map a CPU computes in two forward and two backward.

torch's backward pass takes eight: products of the gradient with the map and with the gates are written, one is summed
up, and the gradient of the means is spread and added to the other. What was measured is in docs/experiments.md.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from timm.layers.squeeze_excite import SEModule
from timm.models._efficientnet_blocks import SqueezeExcite
from torch import Tensor, nn

from barlowctl.kernels import thread_team
from barlowctl.kernels.number_formats import LIKE
from barlowctl.own_gradients import once_differentiable


class _Gates:
    """What the gates of one forward pass are, for the gradient of its means."""

    values: Tensor


class _Means(torch.autograd.Function):
    """A map `(n, c, h, w)`, and its means `(n, c, 1, 1)`.

    The gradient of the first is that of the map times its gates, which are yet to be multiplied with it: see `_Gated`.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, gates: _Gates) -> tuple[Tensor, Tensor]:
        from barlowctl.kernels import gating  # numba takes a second, which evaluation does not need

        ctx.gates, ctx.shape, ctx.dtype = gates, x.shape, x.dtype
        means = torch.empty((*x.shape[:2], 1, 1), dtype=x.dtype)
        _call(gating.AVERAGE, x, MAP=x, MEANS=means)
        return x.view_as(x), means

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, of_means: Tensor) -> tuple[Tensor, None]:
        from barlowctl.kernels import gating

        grad = grad.contiguous(memory_format=torch.channels_last)
        of_x = torch.empty(ctx.shape, dtype=ctx.dtype, memory_format=torch.channels_last)
        gates = ctx.gates.values
        _call(gating.OF_MAP, of_x, MAP=of_x, OTHER=grad, GATES=gates, MEANS=of_means.contiguous())
        return of_x, None


class _Gated(torch.autograd.Function):
    """A map times its gates `(n, c, 1, 1)`. The gradient of the map is not multiplied with them: `_Means` does it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, values: Tensor, gates: _Gates) -> Tensor:
        from barlowctl.kernels import gating

        gates.values = values.detach().contiguous()
        y = torch.empty_like(x)
        _call(gating.GATE, x, MAP=x, OTHER=y, GATES=gates.values)
        ctx.save_for_backward(x)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        from barlowctl.kernels import gating

        (x,) = ctx.saved_tensors
        grad = grad.contiguous(memory_format=torch.channels_last)
        of_gates = torch.empty((*x.shape[:2], 1, 1), dtype=x.dtype)
        _call(gating.OF_GATES, x, MAP=x, OTHER=grad, GATES=of_gates)
        return grad, of_gates, None


def _call(which: int, x: Tensor, **tensors: Tensor) -> None:
    """Have every image computed by torch's threads. tensors: by the fields of a task that have their addresses."""
    from barlowctl.kernels import gating
    from barlowctl.kernels.thread_tiles import call

    n, c, height, width = x.shape
    task, room = np.zeros(gating.FIELDS, np.int64), torch.empty((n, c), dtype=torch.float32)
    task[gating.IMAGES], task[gating.PIXELS], task[gating.CHANNELS] = n, height * width, c
    for name, tensor in {**tensors, "ROOM": room}.items():
        task[getattr(gating, name)] = tensor.data_ptr()
    call(thread_team.team(), gating.of_every_image(which, x.dtype).address, task)


class FusedSqueezeExcite(SqueezeExcite):
    """Of EfficientNet and MobileNetV3, in training on a CPU and of maps in channels_last; all else is timm's own."""

    def forward(self, x: Tensor) -> Tensor:
        """See timm's."""
        if not takes(self, x):
            out: Tensor = super().forward(x)  # type: ignore[no-untyped-call]
            return out
        gates = _Gates()
        x, squeezed = _Means.apply(x, gates)
        values = self.gate(self.conv_expand(self.act1(self.conv_reduce(squeezed))))
        gated: Tensor = _Gated.apply(x, values.to(x.dtype), gates)
        return gated


class FusedSEModule(SEModule):
    """Of RegNetY and SE-ResNets: the same."""

    def forward(self, x: Tensor) -> Tensor:
        """See timm's."""
        if self.add_maxpool or not takes(self, x):
            out: Tensor = super().forward(x)  # type: ignore[no-untyped-call]
            return out
        gates = _Gates()
        x, squeezed = _Means.apply(x, gates)
        values = self.gate(self.fc2(self.act(self.bn(self.fc1(squeezed)))))
        gated: Tensor = _Gated.apply(x, values.to(x.dtype), gates)
        return gated


def takes(module: nn.Module, x: Tensor) -> bool:
    """Whether our kernels compute a module's map: in training, where a gradient is asked for."""
    if not module.training or torch.compiler.is_compiling() or not torch.is_grad_enabled():
        return False
    plain = type(x) is Tensor and x.device.type == "cpu" and x.dtype in LIKE and x.requires_grad and x.ndim == 4
    return plain and x.numel() > 0 and x.is_contiguous(memory_format=torch.channels_last) and thread_team.serves()


FUSED: dict[type, type] = {SqueezeExcite: FusedSqueezeExcite, SEModule: FusedSEModule}


def choose_squeeze_excitation(network: nn.Module) -> None:
    """Let such modules be computed by our kernels; names, parameters and hooks stay."""
    for part in network.modules():
        part.__class__ = FUSED.get(type(part), type(part))


def prepare_squeeze_excitation(network: nn.Module, dtype: torch.dtype) -> None:
    """Compile the kernels of the network's squeeze-and-excitation for maps in a number format."""
    if any(type(part) in FUSED.values() for part in network.modules()):
        gates = _Gates()
        x, means = _Means.apply(torch.zeros(1, 1, 1, 1, dtype=dtype, requires_grad=True), gates)
        _Gated.apply(x, means, gates).sum().backward()
