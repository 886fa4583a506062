"""GELU and SiLU in bf16 that a CPU looks up: their values in a table, and their derivatives for the backward pass.

torch's compute the exponential or the error function of each number, each way. What was measured is in
docs/experiments.md.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import numpy as np
import torch
from timm.layers import activations as timms
from torch import Tensor, nn
from torch.nn import functional

from barlowctl.kernels import thread_team
from barlowctl.own_gradients import once_differentiable

FEWEST, PIECE = 2**12, 2**15
"""Numbers from which on they are looked up, and that a thread takes at a time."""
FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": functional.gelu,
    "gelu tanh": partial(functional.gelu, approximate="tanh"),
    "silu": functional.silu,
}


def activate(x: Tensor, name: str) -> Tensor:
    """One of `FUNCTIONS` of x, bf16, contiguous or in channels_last: rounded once; derivatives are kept in float16."""
    out: Tensor = _LookUp.apply(x, name)
    return out


@cache
def table_of(name: str) -> np.ndarray:
    """See `activation_table.TABLE`: computed in float64."""
    from barlowctl.kernels.activation_table import NUMBERS  # numba takes a second, which evaluation does not need

    bits = torch.arange(NUMBERS, dtype=torch.int32).to(torch.int16)
    with torch.enable_grad(), torch.autocast("cpu", enabled=False):
        numbers = bits.view(torch.bfloat16).double().requires_grad_()
        values = FUNCTIONS[name](numbers)
        (slopes,) = torch.autograd.grad(values.sum(), numbers)
    slopes[numbers.isnan()] = torch.nan  # of the approximation torch's is 0 there
    low, high = (
        part.view(torch.int16).numpy().view(np.uint16).astype(np.uint32)
        for part in (values.detach().to(torch.bfloat16), slopes.to(torch.float16))
    )
    table: np.ndarray = low | high << np.uint32(16)
    return table


class _LookUp(torch.autograd.Function):
    """See `activate`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, name: str) -> Tensor:
        from barlowctl.kernels import activation_table as kernels

        y, slopes = torch.empty_like(x), torch.empty_like(x, dtype=torch.float16)
        _call(kernels.look_up_pieces, x.numel(), TABLE=table_of(name).ctypes.data, X=x, Y=y, SLOPES=slopes)
        ctx.save_for_backward(slopes)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        from barlowctl.kernels import activation_table as kernels

        (slopes,) = ctx.saved_tensors
        of_x = torch.empty_like(slopes, dtype=grad.dtype)
        if grad.stride() != slopes.stride():
            grad = torch.empty_like(of_x).copy_(grad)
        _call(kernels.multiply_pieces, grad.numel(), GRADIENT=grad, SLOPES=slopes, Y=of_x)
        return of_x, None


def _call(function: Any, count: int, **fields: Tensor | int) -> None:
    """Have all numbers taken by torch's threads. fields: addresses of a task, or the tensors that are there."""
    from barlowctl.kernels import activation_table as kernels
    from barlowctl.kernels.thread_tiles import call

    task = np.zeros(kernels.FIELDS, np.int64)
    task[kernels.COUNT], task[kernels.PIECE] = count, PIECE
    for name, value in fields.items():
        task[getattr(kernels, name)] = value.data_ptr() if isinstance(value, Tensor) else value
    call(thread_team.team(), function.address, task)


class _Tabulated(nn.Module):
    """In front of an activation, which is looked up in training and in bf16 on a CPU; all else is its own."""

    def forward(self, x: Tensor) -> Tensor:
        """See the class behind this one."""
        name = "gelu tanh" if getattr(self, "approximate", "none") == "tanh" else NAMES[type(self)]
        if not self.training or torch.compiler.is_compiling() or not takes(x):
            out: Tensor = super().forward(x)
            return out
        return activate(x, name)


class TabulatedGELU(_Tabulated, nn.GELU):
    """torch's."""


class TabulatedTimmGELU(_Tabulated, timms.GELU):
    """timm's."""


class TabulatedGELUTanh(_Tabulated, timms.GELUTanh):
    """timm's approximation."""


class TabulatedSiLU(_Tabulated, nn.SiLU):
    """torch's, never in place: x is not kept for the backward pass."""


NAMES: dict[type, str] = {
    TabulatedGELU: "gelu",
    TabulatedTimmGELU: "gelu",
    TabulatedGELUTanh: "gelu tanh",
    TabulatedSiLU: "silu",
}
TABULATED: dict[type, type] = {
    nn.GELU: TabulatedGELU,
    timms.GELU: TabulatedTimmGELU,
    timms.GELUTanh: TabulatedGELUTanh,
    nn.SiLU: TabulatedSiLU,
}


def takes(x: Tensor) -> bool:
    """Whether numbers of x are looked up: there are enough for it, and a gradient is asked for."""
    plain = type(x) is Tensor and x.device.type == "cpu" and x.dtype == torch.bfloat16 and x.numel() >= FEWEST
    if not plain or not x.requires_grad or not torch.is_grad_enabled():
        return False
    from barlowctl.kernels import activation_table as kernels  # numba takes a second, which others do not need

    in_rows = x.is_contiguous() or (x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last))
    return in_rows and kernels.is_usable() and thread_team.serves()


def choose_activations(network: nn.Module) -> None:
    """Let activations be looked up on a CPU; names and hooks stay."""
    for part in network.modules():
        part.__class__ = TABULATED.get(type(part), type(part))


def prepare_activations(network: nn.Module, dtype: torch.dtype) -> None:
    """Compile the kernels of the network's activations, where they are used in a number format."""
    if dtype == torch.bfloat16 and any(isinstance(part, _Tabulated) for part in network.modules()):
        x = torch.zeros(FEWEST, dtype=dtype, requires_grad=True)
        if takes(x):
            activate(x, "gelu").sum().backward()
