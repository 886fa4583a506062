"""InfoNCE against a queue, the loss of MoCo (He et al., CVPR 2020, arXiv 1911.05722, equation 1).

    L = -1 / N sum_i log [exp(q_i · k_i / tau) / (exp(q_i · k_i / tau) + sum_j exp(q_i · m_j / tau))]

q are queries, k the keys of the same images and m the queue's rows, all at unit length. Only queries take a gradient:
keys and queue are constants. Over several ranks N is the global batch, of which each rank has its own rows and the
queue as a whole, so that all that is sent are the sums of the terms (all-reduces of 3 and of 2 D + 1 numbers).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from barlowctl.distributed import ALONE, Ranks
from barlowctl.errors import UserError
from barlowctl.objective.batch_statistics import full_precision, wide_dtype
from barlowctl.objective.similarity import agreed_shares, check_pair, in_one_block, row_blocks, unit_rows
from barlowctl.objective.spread import direction_spread

TEMPERATURE = 0.07
"""tau of MoCo; MoCo v2 has 0.2."""


class MoCoTerms(NamedTuple):
    """Scalars over the global batch; only the loss carries a gradient.

    similarity: mean cosine of a query and its key. accuracy: share of queries that are nearer to it than to the queue.
    spread: of the queries' directions, see `direction_spread`.
    """

    loss: Tensor
    similarity: Tensor
    accuracy: Tensor
    spread: Tensor


def info_nce(
    q: Tensor,
    k: Tensor,
    queue: Tensor,
    *,
    temperature: float = TEMPERATURE,
    ranks: Ranks = ALONE,
    shares: Sequence[int] | None = None,
) -> MoCoTerms:
    """InfoNCE of queries `(N, D)` against their keys `(N, D)` and a queue `(K, D)`.

    Computed in float32 (float64 for float64 input) also under autocast, in memory for `ENTRIES_AT_ONCE` similarities.
    Over several ranks each gives its own rows and the same queue, gets the loss of the whole batch, and the gradient of
    its queries without a factor of the number of ranks.

    Args:
        q, k: row b of both from the same image; brought to unit length in here. No gradient goes to `k`.
        queue: rows of unit length, which are taken as they are; not changed.
        temperature: tau.
        ranks: those that share the batch; every one of them makes the same call.
        shares: how many rows each rank has; None: they ask one another.

    Raises:
        UserError: shapes that do not fit together; a temperature that is not positive.
    """
    check_pair(q, k, temperature=temperature)
    if queue.ndim != 2 or queue.shape[1] != q.shape[1]:
        raise UserError(
            f"the queue has shape {tuple(queue.shape)}, and queries have {q.shape[1]} dimensions",
            allowed=f"(entries, {q.shape[1]})",
        )
    total = sum(agreed_shares(q, ranks, shares))
    with full_precision(q):
        queries, keys = unit_rows(q), unit_rows(k.detach())
        keys, negatives = (constants.to(queries.dtype) for constants in (keys, queue.detach()))
        loss, similarity, accuracy = _InfoNCE.apply(queries, keys, negatives, temperature, ranks, total)
    return MoCoTerms(loss, similarity, accuracy, direction_spread(queries, ranks))


class _InfoNCE(torch.autograd.Function):
    """With lse the logarithm of the denominator and P_ij = exp(q_i · m_j / tau - lse_i):

    dL/dq_i = 1 / (N tau) [sum_j P_ij m_j + (exp(q_i · k_i / tau - lse_i) - 1) k_i].

    Similarities are formed a block of rows at a time, and again in the backward pass where there are several blocks.
    """

    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, queue: Tensor, temperature: float, ranks: Ranks, total: int
    ) -> tuple[Tensor, ...]:
        with full_precision(q):
            positives = (q * k).sum(dim=1).div_(temperature)
            lse, largest, table = torch.empty_like(positives), torch.empty_like(positives), None
            for rows in row_blocks(len(q), len(queue)):
                negatives = (q[rows] @ queue.t()).div_(temperature)
                lse[rows], largest[rows] = negatives.logsumexp(dim=1), negatives.amax(dim=1)
                table = negatives if in_one_block(len(q), len(queue)) else None
            lse = torch.logaddexp(lse, positives)
        correct, wide = positives > largest, wide_dtype(q)
        sums = torch.stack([(lse - positives).sum(dtype=wide), positives.sum(dtype=wide), correct.sum(dtype=wide)])
        means = ranks.add(sums).div_(total).to(q.dtype)
        loss, similarity, accuracy = means[0], means[1] * temperature, means[2]
        ctx.save_for_backward(q, k, queue, positives, lse, table)
        ctx.temperature, ctx.total = temperature, total
        ctx.mark_non_differentiable(similarity, accuracy)
        return loss, similarity, accuracy

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
        q, k, queue, positives, lse, table = ctx.saved_tensors
        with full_precision(q):
            gradient = k * (positives - lse).expm1()[:, None]
            for rows in row_blocks(len(q), len(queue)):
                negatives = (q[rows] @ queue.t()).div_(ctx.temperature) if table is None else table
                weights = (negatives - lse[rows, None]).exp_()
                gradient[rows].addmm_(weights, queue)
        return gradient.mul_(grad / (ctx.total * ctx.temperature)), None, None, None, None, None
