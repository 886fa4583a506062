"""Global pooling to mean and maximum beside one another (timm's `catavgmax`) that a CPU computes in one pass each way.

torch's takes five over the gradient of the map. What was measured is in docs/experiments.md.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from timm.layers.adaptive_avgmax_pool import AdaptiveCatAvgMaxPool2d
from torch import Tensor, nn

from barlowctl.kernels import thread_team
from barlowctl.kernels.number_formats import LIKE
from barlowctl.own_gradients import once_differentiable


class FusedCatAvgMaxPool2d(AdaptiveCatAvgMaxPool2d):
    """`(n, c, h, w) -> (n, 2 c, 1, 1)`, of maps in channels_last in training; all else is timm's own.

    The gradient of a maximum goes to the first of equal values, as torch's does. What is written in bf16 is rounded
    once.
    """

    def forward(self, x: Tensor) -> Tensor:
        """See `AdaptiveCatAvgMaxPool2d`."""
        alone = self.output_size in (1, (1, 1)) and type(x) is Tensor and x.device.type == "cpu" and x.dtype in LIKE
        if not alone or not self.training or torch.compiler.is_compiling() or not _is_a_map(x):
            pooled: Tensor = super().forward(x)  # type: ignore[no-untyped-call]
            return pooled
        out: Tensor = _CatAvgMax.apply(x)
        return out


def _is_a_map(x: Tensor) -> bool:
    in_rows = x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last)
    return in_rows and x.numel() > 0 and thread_team.serves()


class _CatAvgMax(torch.autograd.Function):
    """See `FusedCatAvgMaxPool2d`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        from barlowctl.kernels import (
            global_pooling as pooling_kernels,  # numba takes a second, which evaluation does not need
        )

        n, c = x.shape[:2]
        ctx.shape = x.shape
        pooled = torch.empty((n, 2 * c, 1, 1), dtype=x.dtype)
        places = torch.empty((n, c), dtype=torch.int32)
        _call(pooling_kernels.pooling(x.dtype), x, pooled, places)
        ctx.save_for_backward(places)
        return pooled

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        from barlowctl.kernels import global_pooling as pooling_kernels

        (places,) = ctx.saved_tensors
        of_x = torch.empty(ctx.shape, dtype=grad.dtype, memory_format=torch.channels_last)
        _call(pooling_kernels.spreading(grad.dtype), of_x, grad.contiguous(), places)
        return of_x


def _call(function: Any, map: Tensor, pooled: Tensor, places: Tensor) -> None:
    from barlowctl.kernels.thread_tiles import call

    n, c, height, width = map.shape
    task = np.array([0, n, height * width, c, map.data_ptr(), pooled.data_ptr(), places.data_ptr()])
    call(thread_team.team(), function.address, task)


def choose_pooling(network: nn.Module) -> None:
    """Let such pooling be computed by our kernels; names and hooks stay."""
    for part in network.modules():
        if type(part) is AdaptiveCatAvgMaxPool2d:
            part.__class__ = FusedCatAvgMaxPool2d


def prepare_pooling(network: nn.Module, dtype: torch.dtype) -> None:
    """Compile the kernels of the network's pooling for maps in a number format: the first call ever takes seconds."""
    if any(isinstance(part, FusedCatAvgMaxPool2d) for part in network.modules()):
        x = torch.zeros(1, 1, 1, 1, dtype=dtype, requires_grad=True)
        FusedCatAvgMaxPool2d()(x).sum().backward()
