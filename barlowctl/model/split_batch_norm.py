"""Batch norm of parts of a batch, on one device: what several devices without synchronised batch norm compute."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


class SplitBatchNorm(nn.Module):
    """A batch norm of torch or timm (with its activation) that normalises each of `groups` parts of a batch by itself.

    The parts are those that ranks would have: rows of the batch in their order. Running statistics become the mean of
    what each part alone would make of them, as in MoCo's `moco_cifar10_demo.ipynb`. Takes over the parameters and
    buffers of `norm` under the same names. Evaluation mode knows no parts. A batch with less than two images for each
    part, which no training has, is cut into fewer: one whose operations are counted, or which is timed.
    """

    weight: Tensor | None
    bias: Tensor | None
    running_mean: Tensor | None
    running_var: Tensor | None
    num_batches_tracked: Tensor | None

    def __init__(self, norm: _BatchNorm, groups: int) -> None:
        super().__init__()
        self.register_parameter("weight", norm.weight)
        self.register_parameter("bias", norm.bias)
        for name in ("running_mean", "running_var", "num_batches_tracked"):
            self.register_buffer(name, getattr(norm, name))
        self.eps, self.momentum, self.groups = norm.eps, norm.momentum, groups
        self.drop = getattr(norm, "drop", None) or nn.Identity()
        self.act = getattr(norm, "act", None) or nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """`(N, C, ...)` -> the same shape and dtype."""
        if self.training or self.running_mean is None:
            out = self._by_groups(x)
        else:
            out = nn.functional.batch_norm(
                x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps
            )
        activated: Tensor = self.act(self.drop(out))
        return activated

    def _by_groups(self, x: Tensor) -> Tensor:
        groups = max(1, min(self.groups, len(x) // 2))
        ends = [len(x) * number // groups for number in range(groups + 1)]
        tracked = [buffer for buffer in (self.running_mean, self.running_var) if buffer is not None]
        parts: list[Tensor] = []
        statistics: list[list[Tensor]] = []
        share = self._share()
        for begin, end in pairwise(ends):
            own = [buffer.clone() for buffer in tracked]
            mean, variance = own or (None, None)
            parts.append(
                nn.functional.batch_norm(x[begin:end], mean, variance, self.weight, self.bias, True, share, self.eps)
            )
            statistics.append(own)
        with torch.no_grad():
            for buffer, values in zip(tracked, zip(*statistics, strict=True), strict=True):
                buffer.copy_(torch.stack(values).mean(dim=0))
            if self.num_batches_tracked is not None:
                self.num_batches_tracked.add_(1)
        return torch.cat(parts)

    def _share(self) -> float:
        """What a batch weighs in the running statistics."""
        if self.momentum is None and self.num_batches_tracked is not None:
            return 1.0 / (self.num_batches_tracked.item() + 1.0)
        return self.momentum or 0.0


def split_batch_norm(module: nn.Module, groups: int) -> nn.Module:
    """The module with every batch norm over `groups` parts of a batch; parameters, buffers and their names stay."""
    if groups == 1:
        return module
    if isinstance(module, _BatchNorm):
        return SplitBatchNorm(module, groups)
    for name, child in module.named_children():
        setattr(module, name, split_batch_norm(child, groups))
    return module
