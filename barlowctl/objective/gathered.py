"""The rows of a batch that ranks share, all of them on each rank, with the gradient of its own rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from barlowctl.distributed import ALONE, Ranks


class _Gathered(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, ranks: Ranks, shares: Sequence[int]) -> Tensor:
        ctx.own = slice(sum(shares[: ranks.rank]), sum(shares[: ranks.rank + 1]))
        return ranks.gather(rows, shares)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        return grad[ctx.own], None, None


def gathered(rows: Tensor, ranks: Ranks = ALONE, shares: Sequence[int] | None = None) -> Tensor:
    """The rows of all ranks `(n, ...)`, in the order of ranks: `(N, ...)`; this rank's own where it is alone.

    Every rank computes the same loss of all rows, and the gradient of a rank's own rows is that loss's, without a
    factor of the number of ranks (see `distributed`).

    Args:
        shares: how many rows each rank has (`Targets.shares`); None: they ask one another.
    """
    if ranks.size == 1:
        return rows
    everything: Tensor = _Gathered.apply(rows, ranks, tuple(ranks.shares(len(rows)) if shares is None else shares))
    return everything
