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
from barlowctl.objective.batch_statistics import full_precision

ANCHORS = 2
"""Views whose codes are predicted: the large ones."""


class CodeTerms(NamedTuple):
    """Scalars: the loss, and the mean entropy of the codes.

    The loss is that entropy and what predictions differ from the codes by. ln K of both: the scores say nothing.
    """

    loss: Tensor
    entropy: Tensor


@torch.no_grad()
def sinkhorn(
    scores: Tensor,
    *,
    epsilon: float = 0.05,
    iterations: int = 3,
    ranks: Ranks = ALONE,
    queued: Tensor | None = None,
    counts: Tensor | None = None,
) -> Tensor:
    """Codes `(G, n, K)` of scores `(G, n, K)`: G batches by themselves, each over all ranks' rows.

    `exp(scores / epsilon)`, of which in turns each prototype is scaled to the same sum over the batch and each sample
    to the sum 1, as often as `iterations`; samples come last, so that every code adds up to 1 exactly (appendix A, and
    `distributed_sinkhorn` of the authors' code). The scaling is kept as logarithms, in the dtype of the scores:
    `exp(1 / 0.05)` overflows in float16, and a small epsilon would in float32. No gradient.

    Over ranks: an all-gather of G K numbers each iteration; all of them scale prototypes by the same numbers.

    Args:
        queued: scores `(G, L, K)` of samples before this batch, which are scaled with it and have no code; the same on
            every rank.
        counts: which of those count, `(L,)` bool; None: all.
    """
    logs = scores / epsilon
    before = None if queued is None else queued / epsilon
    absent = None if counts is None else torch.zeros_like(counts, dtype=logs.dtype).masked_fill_(~counts, -torch.inf)
    own_scale = logs.new_zeros(logs.shape[:2])
    old_scale = None if before is None else before.new_zeros(before.shape[:2])
    prototype_scale = logs.new_zeros(len(logs), logs.shape[2])
    for _ in range(iterations):
        sums = _gathered_logsumexp(torch.logsumexp(logs + own_scale[..., None], dim=1), ranks)  # (G, K)
        if before is not None and old_scale is not None:
            if absent is not None:
                old_scale = old_scale + absent
            sums = torch.logaddexp(sums, torch.logsumexp(before + old_scale[..., None], dim=1))
        prototype_scale = -sums
        own_scale = -torch.logsumexp(logs + prototype_scale[:, None], dim=2)
        if before is not None:
            old_scale = -torch.logsumexp(before + prototype_scale[:, None], dim=2)
    return (logs + prototype_scale[:, None] + own_scale[..., None]).exp_()


def _gathered_logsumexp(own: Tensor, ranks: Ranks) -> Tensor:
    """Logarithm of the sum over ranks of `exp(own)`, `(G, K)`, the same on all of them."""
    if ranks.size == 1:
        return own
    return torch.logsumexp(ranks.gather(own[None], [1] * ranks.size), dim=0)


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
        UserError: fewer than two views, or shapes that differ.
    """
    _check_scores(scores)
    with full_precision(scores[0]):
        wide = [s.to(torch.promote_types(s.dtype, torch.float32)) for s in scores]
        anchors = torch.stack([s.detach() for s in wide[:ANCHORS]])
        codes = sinkhorn(
            anchors, epsilon=epsilon, iterations=iterations, ranks=ranks, queued=queued, counts=counts
        )  # (2, n, K)
        entropies = -torch.xlogy(codes, codes).sum(dim=2).mean(dim=0)  # (n,)
        both = codes.sum(dim=0)
        missed = [  # what predictions of each view miss of the codes of the others, (n,)
            -((codes[1 - view] if view < ANCHORS else both) * torch.log_softmax(s / temperature, dim=1)).sum(dim=1)
            for view, s in enumerate(wide)
        ]
        per_row = torch.stack(missed).sum(dim=0) / (ANCHORS * (len(wide) - 1))
        shares = ranks.shares(len(per_row)) if shares is None else shares
        return CodeTerms(batch_mean(per_row, ranks, shares), batch_mean(entropies, ranks, shares))


def _check_scores(scores: Sequence[Tensor]) -> None:
    shapes = [tuple(s.shape) for s in scores]
    if len(shapes) < ANCHORS or len(shapes[0]) != 2 or any(shape != shapes[0] for shape in shapes):
        raise UserError(
            f"scores of {len(shapes)} views with shapes {', '.join(map(str, shapes))}",
            allowed="two views or more, of one shape (samples, prototypes)",
        )
