"""Statistics of a batch of embeddings: its moments, and embeddings that are standardised or centred by them.

Over several ranks `(n, D)` is the rank's own rows of a batch of N. Statistics are those of the whole batch, the same
on every rank. A backward pass takes dL / d(own rows) of the result, without a factor of the number of ranks, and gives
the same of `z`. Standardising takes one all-reduce of 2 D + 1 numbers forward and one of 2 D backward, centring one of
D + 1 in each direction.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from barlowctl.distributed import ALONE, Ranks

EPS = 1e-5
"""Added to the variance, as `torch.nn.BatchNorm1d` does and the authors' code therefore does."""


def full_precision(tensor: Tensor) -> AbstractContextManager[Any]:
    """A context without autocast: products of the loss are taken in the dtype of their operands."""
    if tensor.device.type == "meta":  # of a network whose operations are counted: torch has no autocast for it
        return nullcontext()
    return torch.autocast(device_type=tensor.device.type, enabled=False)


def wide_dtype(tensor: Tensor) -> torch.dtype:
    """The dtype sums are accumulated in: float64, or float32 on devices that lack float64."""
    return torch.float32 if tensor.device.type == "mps" else torch.float64


def batch_moments(z: Tensor, ranks: Ranks = ALONE) -> tuple[Tensor, Tensor, Tensor | int]:
    """Centred own rows `(n, D)`, the batch's biased variance `(D,)`, and N (over ranks a tensor: no waiting).

    Alone, from two passes over `z`; the second one also takes out what rounding left of the mean, so a
    large offset costs no accuracy beyond that of `z` itself. Over ranks, from sums in float64 that are
    reduced once.
    """
    if ranks.size == 1:
        centered = z - z.mean(dim=0, dtype=wide_dtype(z)).to(z.dtype)
        centered -= centered.mean(dim=0)
        return centered, centered.square().mean(dim=0, dtype=wide_dtype(z)).to(z.dtype), len(z)
    wide = z.to(wide_dtype(z))
    rows = wide.new_full((1,), float(len(z)))
    sums = ranks.add(torch.cat([rows, wide.sum(dim=0), wide.square().sum(dim=0)]))
    count, (total, squares) = sums[0], sums[1:].chunk(2)
    mean = total / count
    variance = (squares / count - mean.square()).clamp_min(0.0)
    return (wide - mean).to(z.dtype), variance.to(z.dtype), count.to(z.dtype)


class _Standardize(torch.autograd.Function):
    """Batch norm without affine parameters; its closed-form gradient keeps the output and 1 / std, and no input."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, ranks: Ranks) -> Tensor:
        centered, variance, ctx.count = batch_moments(z, ranks)
        inverse_std = torch.rsqrt(variance + EPS)
        standardized = centered.mul_(inverse_std)
        ctx.save_for_backward(standardized, inverse_std)
        ctx.ranks = ranks
        return standardized

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        standardized, inverse_std = ctx.saved_tensors
        if ctx.ranks.size == 1:
            mean, projection = grad.mean(dim=0), (grad * standardized).mean(dim=0)
        else:
            sums = torch.cat([grad.sum(dim=0), (grad * standardized).sum(dim=0)])
            mean, projection = ctx.ranks.add(sums).div_(ctx.count).chunk(2)
        return torch.addcmul(grad - mean, standardized, projection, value=-1).mul_(inverse_std), None


def standardize(z: Tensor, ranks: Ranks = ALONE) -> Tensor:
    """`(z - mean) / sqrt(variance + 1e-5)` along the batch, biased variance. `(n, D)` -> `(n, D)`.

    A constant dimension comes out as zeros, and its gradient is finite.
    """
    outcome: Tensor = _Standardize.apply(z, ranks)
    return outcome


class _Center(torch.autograd.Function):
    """Subtract the batch's mean; the gradient loses its own mean."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, ranks: Ranks) -> Tensor:
        ctx.ranks = ranks
        return z - _batch_mean(z, ranks)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad - _batch_mean(grad, ctx.ranks), None


def _batch_mean(z: Tensor, ranks: Ranks) -> Tensor:
    """Mean over all ranks' rows, `(D,)`."""
    total = z.sum(dim=0, dtype=wide_dtype(z))
    sums = ranks.add(torch.cat([total.new_full((1,), float(len(z))), total]))
    return (sums[1:] / sums[0]).to(z.dtype)


def center(z: Tensor, ranks: Ranks = ALONE) -> Tensor:
    """`z - mean` along the batch. `(n, D)` -> `(n, D)`."""
    outcome: Tensor = _Center.apply(z, ranks)
    return outcome
