"""A ResNet's stem on a CPU: batch norm, ReLU and maximum pooling in training, whose map between them is not kept.

torch's pooling notes eight bytes for each result, and fills a map of zeros to spread its gradient over. What was
measured is in docs/experiments.md.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from barlowctl.kernels.number_formats import LIKE
from barlowctl.own_gradients import once_differentiable

VECTOR = 16
"""Numbers of a processor's widest vector; others' are a part of it."""
Running = tuple[Tensor, Tensor, Tensor | None]


class PoolingOfFused(nn.MaxPool2d):
    """A maximum pooling that leaves as it is what a fused batch norm has pooled."""

    def forward(self, x: Tensor) -> Tensor:
        """See `nn.MaxPool2d`."""
        pooled_at = getattr(x, "pooled_at", None)
        return x if pooled_at is not None and pooled_at == x._version else super().forward(x)


def fits(pooling: nn.Module, channels: int) -> bool:
    """Whether our kernels pool so: windows of 3 x 3 with a stride of 2, of channels that fill vectors."""
    if not isinstance(pooling, nn.MaxPool2d) or type(pooling) not in (nn.MaxPool2d, PoolingOfFused):
        return False
    sides = pooling.kernel_size, pooling.stride, pooling.padding, pooling.dilation
    usual = [side if isinstance(side, tuple) else (side, side) for side in sides] == [(3, 3), (2, 2), (1, 1), (1, 1)]
    return usual and not pooling.ceil_mode and not pooling.return_indices and channels % VECTOR == 0


def normalize(
    x: Tensor, weight: Tensor, bias: Tensor, running: Running, momentum: float, eps: float, parts: int
) -> Tensor:
    """The maximum pooling of the rectified batch norm of x, `(n, c, h, w)` in channels_last: `(n, c, h', w')`.

    Args:
        x: bf16 or float32. weight, bias: float32 `(c,)`.
        running: mean and variance, moved by `momentum`; and the number of batches, int64, to which the parts are added.
        parts: of n, each normalised by itself.
    """
    out: Tensor = _NormalizePooled.apply(x, weight, bias, running, momentum, eps, parts)
    return out


def prepare(dtype: torch.dtype) -> None:
    """Compile the kernels for maps in a number format: the first call ever takes seconds."""
    x = torch.zeros(2, VECTOR, 1, 1, dtype=dtype).to(memory_format=torch.channels_last).requires_grad_()
    ones = [torch.ones(VECTOR, dtype=torch.float32) for _ in range(4)]
    normalize(x, ones[0].requires_grad_(), ones[1], (ones[2], ones[3], None), 0.1, 1e-5, 1).sum().backward()


class _NormalizePooled(torch.autograd.Function):
    """See `normalize`."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, running: Running, momentum: float, eps: float, parts: int
    ) -> Tensor:
        from barlowctl.kernels.stem import images as kernels
        from barlowctl.kernels.stem.lines import pooled_side

        n, width, height, across = x.shape
        ctx.shape, ctx.sizes = (parts, n // parts * height * across, width), (n // parts, height, across)
        size = n, width, pooled_side(height), pooled_side(across)
        pooled = torch.empty(size, dtype=x.dtype, memory_format=torch.channels_last)
        places = torch.empty(size, dtype=torch.uint8, memory_format=torch.channels_last)
        statistics = torch.empty(2, parts, width, dtype=torch.float32)
        mean, variance, counted = running
        vectors = weight, bias, statistics, mean, variance
        kernels.normalize(
            _team(x),
            x.data_ptr(),
            pooled.data_ptr(),
            places.data_ptr(),
            LIKE[x.dtype],
            ctx.shape,
            ctx.sizes,
            tuple(vector.data_ptr() for vector in vectors),
            0 if counted is None else counted.data_ptr(),
            eps,
            momentum,
        )
        ctx.save_for_backward(x, weight, bias, statistics, places)
        return pooled

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        from barlowctl.kernels.stem import images as kernels

        x, weight, bias, statistics, places = ctx.saved_tensors
        grad = grad.contiguous(memory_format=torch.channels_last)
        of_x, of_weight, of_bias = torch.empty_like(x), torch.empty_like(weight), torch.empty_like(bias)
        vectors = weight, bias, statistics, of_weight, of_bias
        kernels.differentiate(
            _team(x),
            grad.data_ptr(),
            places.data_ptr(),
            x.data_ptr(),
            of_x.data_ptr(),
            LIKE[x.dtype],
            ctx.shape,
            ctx.sizes,
            tuple(vector.data_ptr() for vector in vectors),
        )
        return of_x, of_weight, of_bias, None, None, None, None


def _team(x: Tensor) -> tuple[int, ...]:
    from barlowctl.kernels.batch_norm import passes as norm_passes
    from barlowctl.kernels.stem import images as pooled_norm_kernels

    return pooled_norm_kernels.team_of(*norm_passes.team_for(x), x.dtype)
