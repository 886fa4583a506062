"""The loss of PIRL (Misra and van der Maaten, CVPR 2020, arXiv 1912.01991): image and patches against a memory bank.

    L = 1/2 L(g(patches), m_I) + 1/2 L(f(image), m_I)

m_I is the row of the image itself in a bank with a row for each of M images, and K rows drawn from the bank are the
negatives. With s = v · m / tau, all at unit length, L of a batch is either of

    nce              -1/N sum_i [ ln P_i / (P_i + K/M) + sum_k ln (K/M) / (P_ik + K/M) ],   P = exp(s) / Z
    cross_entropy    InfoNCE, that of MoCo with the negatives as its queue (`moco.info_nce`)

Z is M times the mean of exp(s) in the first batch of a training, one for each half, and a constant from then on. Bank
and negatives take no gradient.

Deviation: the K negatives are drawn once for a step and are the same for every image of the batch; the authors' code
(VISSL) draws K for each image. The expectation is the same, and a matrix product takes the place of N K rows that are
gathered: 17 GB for a batch of 1024.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from barlowctl.distributed import ALONE, Ranks
from barlowctl.objective.batch_statistics import full_precision, wide_dtype
from barlowctl.objective.moco import TEMPERATURE, info_nce
from barlowctl.objective.similarity import agreed_shares, check_pair, row_blocks, unit_rows

Criterion = Literal["nce", "cross_entropy"]


class PIRLTerms(NamedTuple):
    """Scalars over the global batch: `loss = (image + patches) / 2`; the halves carry no gradient."""

    loss: Tensor
    image: Tensor
    patches: Tensor


def pirl_loss(
    image: Tensor,
    patches: Tensor,
    positives: Tensor,
    negatives: Tensor,
    *,
    images: int,
    log_z: Tensor | None = None,
    criterion: Criterion = "nce",
    temperature: float = TEMPERATURE,
    ranks: Ranks = ALONE,
    shares: Sequence[int] | None = None,
) -> PIRLTerms:
    """The loss of `(N, D)` embeddings of images and of their patches.

    Computed in float32 (float64 for float64 input) also under autocast, in memory for `ENTRIES_AT_ONCE` similarities.
    Over several ranks each gives its own rows and the same negatives, gets the loss of the whole batch, and the
    gradient of its rows without a factor of the number of ranks.

    Args:
        image, patches: brought to unit length in here. positives: the bank's rows of the same images, `(N, D)`.
        negatives: rows of the bank `(K, D)`.
        images: M, rows of the bank. log_z: `(2,)`, ln Z of both halves (see `log_partition`); of "nce" alone.
        shares: how many rows each rank has; None: they ask one another.

    Raises:
        UserError: images, patches and positives of different shapes; a temperature that is not positive.
    """
    shares = agreed_shares(image, ranks, shares)
    halves = []
    for number, half in enumerate((image, patches)):
        check_pair(half, positives, temperature=temperature)
        if criterion == "cross_entropy":
            loss = info_nce(half, positives, negatives, temperature=temperature, ranks=ranks, shares=shares).loss
        else:
            assert log_z is not None
            with full_precision(half):
                v = unit_rows(half)
                constants = positives.to(v.dtype), negatives.to(v.dtype)
                threshold = log_z[number].to(v.dtype) + math.log(len(negatives) / images)
                loss = _NCE.apply(v, *constants, threshold, temperature, ranks, sum(shares))
        halves.append(loss)
    return PIRLTerms((halves[0] + halves[1]) / 2.0, halves[0].detach(), halves[1].detach())


@torch.no_grad()
def log_partition(
    v: Tensor,
    positives: Tensor,
    negatives: Tensor,
    *,
    images: int,
    temperature: float,
    ranks: Ranks = ALONE,
    shares: Sequence[int] | None = None,
) -> Tensor:
    """ln Z, 0-dimensional, the same on every rank: M times the mean of exp(s) over a batch's positives and negatives.

    Args: as of `pirl_loss`.
    """
    total = sum(agreed_shares(v, ranks, shares)) * (len(negatives) + 1)
    with full_precision(v):
        v = unit_rows(v)
        own = ((v * positives.to(v.dtype)).sum(dim=1) / temperature).logsumexp(dim=0)
        for rows in row_blocks(len(v), len(negatives)):
            scores = (v[rows] @ negatives.to(v.dtype).t()).div_(temperature)
            own = torch.logaddexp(own, scores.flatten().logsumexp(dim=0))
        everywhere = ranks.gather(own[None], [1] * ranks.size).logsumexp(dim=0)
    return everywhere - math.log(total) + math.log(images)


class _NCE(torch.autograd.Function):
    """`1/N sum_i [softplus(t - s_i) + sum_k softplus(s_ik - t)]`, t = ln (Z K / M); with sigma the logistic function,

    dL/dv_i = 1 / (N tau) [sum_k sigma(s_ik - t) m_k - sigma(t - s_i) m_i].

    The similarities are formed again in the backward pass, a block of rows at a time.
    """

    @staticmethod
    def forward(
        ctx: Any,
        v: Tensor,
        positives: Tensor,
        negatives: Tensor,
        threshold: Tensor,
        temperature: float,
        ranks: Ranks,
        total: int,
    ) -> Tensor:
        softplus, wide = torch.nn.functional.softplus, wide_dtype(v)
        with full_precision(v):
            scores = (v * positives).sum(dim=1).div_(temperature)
            own = softplus(threshold - scores).sum(dtype=wide)
            for rows in row_blocks(len(v), len(negatives)):
                of_negatives = (v[rows] @ negatives.t()).div_(temperature).sub_(threshold)
                own = own + softplus(of_negatives).sum(dtype=wide)
        ctx.save_for_backward(v, positives, negatives, scores, threshold)
        ctx.temperature, ctx.total = temperature, total
        return ranks.add(own[None])[0].div_(total).to(v.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        v, positives, negatives, scores, threshold = ctx.saved_tensors
        with full_precision(v):
            gradient = positives * -torch.sigmoid(threshold - scores)[:, None]
            for rows in row_blocks(len(v), len(negatives)):
                weights = (v[rows] @ negatives.t()).div_(ctx.temperature).sub_(threshold).sigmoid_()
                gradient[rows].addmm_(weights, negatives)
        return gradient.mul_(grad / (ctx.total * ctx.temperature)), None, None, None, None, None, None
