"""The loss of SwAV (Caron et al. 2020, arXiv 2006.09882): each view predicts the code of the others.

    s_v    = z_v Cᵀ                                  scores: cosines of embeddings with K prototypes
    q_g    = Sinkhorn(s_g)                           code of an anchor, one of the first views; a constant
    L      = mean_g mean_{v != g} mean_b - sum_k q_g[b,k] log softmax(s_v / tau)[b,k]

With multi-crop the anchors are the two large views, and v runs over all views, the small ones too (section 3.2).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from barlowctl.distributed import ALONE, Ranks
from barlowctl.errors import UserError
from barlowctl.objective.batch_mean import batch_mean
from barlowctl.objective.batch_statistics import full_precision, wide_dtype
from barlowctl.objective.settings import check_counts, check_positive

EPSILON_OF_FLOAT32, ITERATIONS_OF_FLOAT32 = 0.02, 10
"""Beyond these, codes are computed in float64: factors of rows and columns may differ by more than float32 holds."""
ANCHORS = 2
"""Views whose codes are predicted: the large ones."""


class CodeTerms(NamedTuple):
    """Scalars: the loss, and the mean entropy of the codes.

    The loss is that entropy and what predictions differ from the codes by. ln K of both: the scores say nothing.
    """

    loss: Tensor
    entropy: Tensor


class Codes(NamedTuple):
    """Codes `(G, n, K)`, each of which adds up to 1, and the entropy of each, `(G, n)`."""

    codes: Tensor
    entropies: Tensor


@torch.no_grad()
def sinkhorn(
    scores: Tensor,
    *,
    epsilon: float = 0.05,
    iterations: int = 3,
    ranks: Ranks = ALONE,
    queued: Tensor | None = None,
    counts: Tensor | None = None,
) -> Codes:
    """Codes of scores `(G, n, K)`: G batches by themselves, each over all ranks' rows.

    `exp(scores / epsilon)`, of which in turns each prototype is scaled to the same sum over the batch and each sample
    to the sum 1, as often as `iterations`; samples come last, so that every code adds up to 1 exactly (appendix A, and
    `distributed_sinkhorn` of the authors' code). No gradient.

    The matrix is made once, and the factors of its rows and columns are vectors: an iteration reads it twice and writes
    nothing of its size. `exp(1 / 0.05)` overflows in float16, and a small epsilon would in float32; so each prototype's
    scores are taken below its largest one in the batch, and each sample's then below its largest: every row and every
    column has a 1 and nothing above it, and what vanishes beside that has no part in the sums either.

    Over ranks: all-gathers of G K numbers, one before and one in each iteration; all scale prototypes by the same ones.

    Args:
        queued: scores `(G, L, K)` of samples before this batch, which are scaled with it and have no code; the same on
            every rank.
        counts: which of those count, `(L,)` bool; None: all.
    """
    own_dtype = scores.dtype
    if epsilon < EPSILON_OF_FLOAT32 or iterations > ITERATIONS_OF_FLOAT32:
        scores = scores.to(wide_dtype(scores))
        queued = None if queued is None else queued.to(scores.dtype)
    peaks = _of_all(scores.amax(dim=1), ranks).amax(dim=0)  # (G, K)
    if queued is not None:
        counted = queued if counts is None else queued.masked_fill(~counts[:, None], -torch.inf)
        peaks = torch.maximum(peaks, counted.amax(dim=1))
    kernel, own = _below(scores, peaks, epsilon)
    before = None if queued is None else _below(queued, peaks, epsilon)
    own_scale = own.exp()  # (G, n)
    old_scale = None if before is None else _counting(before[1].exp(), counts)
    for _ in range(iterations):
        sums = _of_all(_over_rows(own_scale, kernel), ranks).sum(dim=0)  # (G, K)
        if before is not None and old_scale is not None:
            sums += _over_rows(old_scale, before[0])
        prototype_scale = sums.amin(dim=1, keepdim=True) / sums  # at most 1, after many iterations too
        own_scale = _over_columns(kernel, prototype_scale).reciprocal_()
        if before is not None:
            old_scale = _counting(_over_columns(before[0], prototype_scale).reciprocal_(), counts)
    codes = kernel.mul_(own_scale[..., None]).mul_(prototype_scale[:, None])
    entropies = _entropies(codes, scores, peaks, epsilon, prototype_scale, own_scale)
    return Codes(codes.to(own_dtype), entropies.to(own_dtype))


def _below(scores: Tensor, peaks: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
    """`exp(scores / epsilon)` `(G, n, K)` by factors of its columns and its rows, and the logarithms of the latter."""
    kernel = scores - peaks[:, None]
    tops = kernel.amax(dim=2)
    kernel.sub_(tops[..., None]).div_(epsilon).exp_()
    return kernel, tops.div_(epsilon)


def _entropies(
    codes: Tensor, scores: Tensor, peaks: Tensor, epsilon: float, prototype_scale: Tensor, own_scale: Tensor
) -> Tensor:
    """`-sum_k q log q` of each code: its logarithm is what it was made of, and none is taken of each entry."""
    logs = scores - peaks[:, None]
    logs.sub_(logs.amax(dim=2, keepdim=True))
    weighted = torch.linalg.vecdot(codes, logs) / epsilon + _over_columns(codes, prototype_scale.log())
    return -(weighted + own_scale.log())


def _over_rows(weights: Tensor, matrices: Tensor) -> Tensor:
    """`(G, n)` and `(G, n, K)` -> sums over rows `(G, K)`."""
    return torch.stack([weight @ matrix for weight, matrix in zip(weights, matrices, strict=True)])


def _over_columns(matrices: Tensor, weights: Tensor) -> Tensor:
    """`(G, n, K)` and `(G, K)` -> sums over columns `(G, n)`."""
    return torch.stack([matrix @ weight for matrix, weight in zip(matrices, weights, strict=True)])


def _counting(scale: Tensor, counts: Tensor | None) -> Tensor:
    """Factors of samples: 0 for those that do not count."""
    return scale if counts is None else scale.masked_fill_(~counts, 0.0)


def _of_all(own: Tensor, ranks: Ranks) -> Tensor:
    """`(G, K)` of every rank, `(W, G, K)`, the same on all of them."""
    return own[None] if ranks.size == 1 else ranks.gather(own[None], [1] * ranks.size)


def swav_loss(
    scores: Sequence[Tensor],
    *,
    temperature: float = 0.1,
    epsilon: float = 0.05,
    iterations: int = 3,
    queued: Tensor | None = None,
    counts: Tensor | None = None,
    ranks: Ranks = ALONE,
    shares: Sequence[int] | None = None,
) -> CodeTerms:
    """Loss of the scores `(N, K)` of V >= 2 views; the first two are anchors.

    Computed in float32 (float64 for float64 input) also under autocast. No gradient goes through the codes. Over
    several ranks each gives its own rows, gets the loss of the whole batch, and the gradient of its rows without a
    factor of the number of ranks (see `distributed`).

    Args:
        temperature: tau of the predictions. epsilon, iterations, queued, counts: see `sinkhorn`; G is 2.
        shares: how many rows each rank has; None: they ask one another.

    Raises:
        UserError: fewer than two views, shapes that differ, or a setting that cannot be.
    """
    _check_scores(scores)
    check_positive(temperature=temperature, epsilon=epsilon)
    check_counts(1, iterations=iterations)
    with full_precision(scores[0]):
        wide = [s.to(torch.promote_types(s.dtype, torch.float32)) for s in scores]
        anchors = torch.stack([s.detach() for s in wide[:ANCHORS]])
        codes, entropies = sinkhorn(
            anchors, epsilon=epsilon, iterations=iterations, ranks=ranks, queued=queued, counts=counts
        )  # (2, n, K), (2, n)
        targets = [codes[1], codes[0], *[codes.sum(dim=0)] * (len(wide) - ANCHORS)]
        missed = [  # what predictions of each view miss of the codes of the others, (n,)
            -(target * torch.log_softmax(s / temperature, dim=1)).sum(dim=1)
            for target, s in zip(targets, wide, strict=True)
        ]
        per_row = torch.stack(missed).sum(dim=0) / (ANCHORS * (len(wide) - 1))
        shares = ranks.shares(len(per_row)) if shares is None else shares
        return CodeTerms(batch_mean(per_row, ranks, shares), batch_mean(entropies.mean(dim=0), ranks, shares))


def _check_scores(scores: Sequence[Tensor]) -> None:
    shapes = [tuple(s.shape) for s in scores]
    if len(shapes) < ANCHORS or len(shapes[0]) != 2 or 0 in shapes[0] or any(shape != shapes[0] for shape in shapes):
        raise UserError(
            f"scores of {len(shapes)} views with shapes {', '.join(map(str, shapes))}",
            allowed="two views or more, of one shape (samples, prototypes)",
        )
