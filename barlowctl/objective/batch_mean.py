"""The mean over the rows of a batch that ranks share, with the gradient of its own rows on each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from barlowctl.distributed import ALONE, Ranks


class _BatchMean(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, count: int, ranks: Ranks) -> Tensor:
        ctx.shape, ctx.count = rows.shape, count
        return ranks.add(rows.sum(dim=0)).div_(count)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        return (grad / ctx.count).expand(ctx.shape), None, None


WITHOUT_SINGLE = "leave out a last batch of one image: DataLoader(..., drop_last=True)"
"""What to do about a batch of one image in somebody's own training; a run refuses it before it begins."""


def batch_mean(rows: Tensor, ranks: Ranks = ALONE, shares: Sequence[int] | None = None) -> Tensor:
    """The mean of one row per image over the batch of all ranks: `(n, ...)` -> `(...)`, the same on every rank.

    The gradient of a rank's own rows is that of the batch's mean, 1 / N, without a factor of the number of ranks (see
    `distributed`), whether ranks hold equally many rows or not.

    Args:
        shares: how many rows each rank has; None: they ask one another.
    """
    if ranks.size == 1:
        return rows.mean(dim=0)
    mean: Tensor = _BatchMean.apply(rows, sum(ranks.shares(len(rows)) if shares is None else shares), ranks)
    return mean
