"""Batch norm over several ranks: over all of them, or over groups of neighbours.

On a GPU torch's own fused one; torch has none for a CPU, so there it is `GlobalBatchNorm`. Both give the
output and the gradients that batch norm over the rows of all these ranks on one device would give.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch
from timm.layers.norm_act import convert_sync_batchnorm
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from barlowctl.distributed import Neighbours, Ranks
from barlowctl.own_gradients import once_differentiable


class _Normalize(torch.autograd.Function):
    """`(x - mean) / sqrt(variance + eps) * weight + bias` with the statistics of all these ranks' rows.

    Forward: one all-reduce of 2 C + 1 numbers. Backward: one of 2 C; the gradients of weight and bias are
    this rank's part of the sum, as every parameter's are.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float, ranks: Ranks | Neighbours
    ) -> tuple[Tensor, ...]:
        dims = [d for d in range(x.ndim) if d != 1]
        wide = x.double()
        own = wide.new_full((1,), float(x.numel() // max(x.shape[1], 1)))
        sums = ranks.add(torch.cat([own, wide.sum(dim=dims), wide.square().sum(dim=dims)]))
        count, (total, squares) = sums[0], sums[1:].chunk(2)
        mean = total / count
        variance = (squares / count - mean.square()).clamp_min(0.0)
        shape = [1, -1, *[1] * (x.ndim - 2)]
        inverse_std = torch.rsqrt(variance + eps)
        exact = torch.promote_types(x.dtype, torch.float32)
        standardized = ((wide - mean.view(shape)) * inverse_std.view(shape)).to(exact)
        ctx.save_for_backward(standardized, inverse_std, weight)
        ctx.ranks, ctx.count, ctx.shape, ctx.dims = ranks, count, shape, dims
        out = torch.addcmul(bias.view(shape).to(exact), standardized, weight.view(shape).to(exact)).to(x.dtype)
        ctx.mark_non_differentiable(mean, variance, count)
        return out, mean, variance, count

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
        standardized, inverse_std, weight = ctx.saved_tensors
        wide = grad.double()
        grad_bias, grad_weight = wide.sum(dim=ctx.dims), (wide * standardized).sum(dim=ctx.dims)
        mean, projection = (ctx.ranks.add(torch.cat([grad_bias, grad_weight])) / ctx.count).chunk(2)
        centered = wide - mean.view(ctx.shape) - standardized * projection.view(ctx.shape)
        grad_x = centered * (inverse_std * weight).view(ctx.shape)
        return grad_x.to(grad.dtype), grad_weight.to(weight.dtype), grad_bias.to(weight.dtype), None, None


class GlobalBatchNorm(nn.Module):
    """A batch norm of torch or timm (with its activation) whose batch is that of several ranks.

    Takes over the parameters and buffers of `norm` under the same names. Evaluation mode uses the running
    statistics and says nothing to the other ranks.
    """

    weight: Tensor | None
    bias: Tensor | None
    running_mean: Tensor | None
    running_var: Tensor | None
    num_batches_tracked: Tensor | None

    def __init__(self, norm: _BatchNorm, ranks: Ranks | Neighbours) -> None:
        super().__init__()
        self.register_parameter("weight", norm.weight)
        self.register_parameter("bias", norm.bias)
        for name in ("running_mean", "running_var", "num_batches_tracked"):
            self.register_buffer(name, getattr(norm, name))
        self.eps, self.momentum, self.ranks = norm.eps, norm.momentum, ranks
        self.drop = getattr(norm, "drop", None) or nn.Identity()
        self.act = getattr(norm, "act", None) or nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """`(N, C, ...)` -> the same shape and dtype."""
        mean, variance = self.running_mean, self.running_var
        if self.training or mean is None:
            width = x.shape[1]
            weight = self.weight if self.weight is not None else x.new_ones(width, dtype=torch.float32)
            bias = self.bias if self.bias is not None else x.new_zeros(width, dtype=torch.float32)
            out, mean, variance, count = _Normalize.apply(x, weight, bias, self.eps, self.ranks)
            self._track(mean, variance * (count / (count - 1.0).clamp_min(1.0)))
        else:
            out = nn.functional.batch_norm(x, mean, variance, self.weight, self.bias, False, 0.0, self.eps)
        activated: Tensor = self.act(self.drop(out))
        return activated

    def _track(self, mean: Tensor, variance: Tensor) -> None:
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        with torch.no_grad():
            self.num_batches_tracked.add_(1)
            share = 1.0 / self.num_batches_tracked.item() if self.momentum is None else self.momentum
            self.running_mean.lerp_(mean.to(self.running_mean.dtype), share)
            self.running_var.lerp_(variance.to(self.running_var.dtype), share)


def synchronize_batch_norm(
    module: nn.Module, ranks: Ranks | Neighbours, device: torch.device, *, frozen: Collection[nn.Module] = ()
) -> nn.Module:
    """The module with every batch norm over these ranks; parameters, buffers and their names stay.

    Args:
        frozen: modules within it that are left as they are: they always evaluate, by running statistics.
    """
    if module in frozen:
        return module
    if isinstance(module, _BatchNorm):
        if device.type != "cuda":
            return GlobalBatchNorm(module, ranks)
        return convert_sync_batchnorm(module, None if isinstance(ranks, Ranks) else ranks.group)
    for name, child in module.named_children():
        setattr(module, name, synchronize_batch_norm(child, ranks, device, frozen=frozen))
    return module
