"""Barlow Twins of more than two views: two large ones, and small ones beside them (multi-crop, Caron et al., 2020).

    L = 1/2 sum_{g in 1, 2} 1/(V - 1) sum_{v != g} L_BT(z_g, z_v)

Each of the two large views is an anchor that is compared with every other view, as in SwAV; small views are not
compared with one another. Every view is standardised by itself. With two views it is Barlow Twins:
L_BT(z_1, z_2) = L_BT(z_2, z_1), for C becomes its transpose.

Nobody has published this loss; the rule is SwAV's and VICRegL's (`docs/methods.md`).

Of the 2 (V - 1) comparisons the one between the two anchors occurs twice and is formed once. In the Gram form a view's
`N x N` matrix is formed once for all its comparisons, and what the backward pass keeps, beside the embeddings, are
three such matrices, however many views there are: with G_v of view v, w the weight of a pair and S the sum of G over
the small views,

    sum_pairs w ||C||² = <G_1, P_1> + w_s <G_2, S>      P_1 = w_12 G_2 + w_s S,  P_2 = w_12 G_1 + w_s S,
    d/dA_v             = 2 P_v A_v                      P_small = w_s (G_1 + G_2).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, Unpack

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from barlowctl.distributed import ALONE, Ranks
from barlowctl.objective.barlow_twins import (
    LAMBD,
    LossOptions,
    LossTerms,
    barlow_twins_loss,
    check_embeddings,
    check_options,
    choose_form,
    normalize,
    weigh,
)
from barlowctl.objective.batch_statistics import full_precision, wide_dtype
from barlowctl.objective.correlation import cross_entropy_terms, primal_terms, symmetric_gram


def multi_crop_loss(
    embeddings: Sequence[Tensor], *, shares: Sequence[int] | None = None, **options: Unpack[LossOptions]
) -> LossTerms:
    """Barlow Twins of `(N, D)` embeddings of each view, the two large views first; of two it is `barlow_twins_loss`.

    The terms are those of a pair, averaged by the weights of the pairs. Computed in float32 (float64 for float64
    input), also under autocast; over ranks as `barlow_twins_loss`.

    Args:
        embeddings: two or more, row b of all from the same image.
        shares: how many rows each rank has; None: they ask one another.
        options: those of `barlow_twins_loss`; "auto" is the cheaper form for this number of views.

    Raises:
        UserError: see `barlow_twins_loss`.
    """
    if len(embeddings) == 2:
        return barlow_twins_loss(embeddings[0], embeddings[1], shares=shares, **options)
    form, terms = options.get("form", "auto"), options.get("terms", "both")
    normalization = options.get("normalization", "batch")
    criterion, temperature = options.get("criterion", "cross-correlation"), options.get("temperature", 0.1)
    ranks = options.get("ranks", ALONE)
    check_options(form, terms, normalization, criterion, temperature, embeddings[0].shape[-1])
    for other in embeddings[1:]:
        check_embeddings(embeddings[0], other, ranks)
    shares = ranks.shares(len(embeddings[0])) if shares is None else shares
    n, d = sum(shares), embeddings[0].shape[1]
    pairs = comparisons(len(embeddings))
    dtype = torch.float32
    for z in embeddings:
        dtype = torch.promote_types(dtype, z.dtype)
    with full_precision(embeddings[0]):
        views = [normalize(z.to(dtype), normalization, ranks) for z in embeddings]
        count = 1.0 if normalization == "feature" else float(n)
        chosen = choose_form(n, d, ranks.size, len(views)) if form == "auto" else form
        if criterion == "cross-entropy" or chosen == "primal":
            invariance, redundancy = views[0].new_zeros(()), views[0].new_zeros(())
            for (g, v), weight in pairs.items():
                if criterion == "cross-entropy":
                    pair = cross_entropy_terms(views[g], views[v], count=count, temperature=temperature, ranks=ranks)
                else:
                    pair = primal_terms(views[g], views[v], count=count, ranks=ranks)
                invariance, redundancy = invariance + weight * pair[0], redundancy + weight * pair[1]
        else:
            invariance, redundancy = _GramTermsOfViews.apply(count, ranks, shares, *views)
    return weigh(invariance, redundancy, options.get("lambd", LAMBD), terms)


def comparisons(views: int) -> dict[tuple[int, int], float]:
    """The pairs of views that are compared, and their weights, which add up to 1."""
    small = range(2, views)
    return {
        (0, 1): 1.0 / (views - 1),
        **dict.fromkeys(itertools.product((0, 1), small), 0.5 / (views - 1)),
    }


class _GramTermsOfViews(torch.autograd.Function):
    """Both terms of all comparisons from the `N x N` matrices of the views (see the module).

    With d_gv = diag(C_gv), `inv` and `red` the gradients of the two terms, and P as above,
    dL/dA_v = 2 red P_v A_v / count² + sum_u w_uv (2 inv (d_uv - 1) - 2 red d_uv) A_u / count.
    Over ranks, every view is gathered and each rank forms its own rows of the matrices; A_v outside of a product with P
    is own rows.
    """

    @staticmethod
    def forward(ctx: Any, count: float, ranks: Ranks, shares: Sequence[int], *views: Tensor) -> tuple[Tensor, Tensor]:
        ctx.set_materialize_grads(False)
        pairs, wide = comparisons(len(views)), wide_dtype(views[0])
        w_anchors, w_small = pairs[0, 1], pairs[0, 2]
        with full_precision(views[0]):
            every = [ranks.gather(a, shares) for a in views]  # (N, D)

            def gram(v: int) -> Tensor:
                whole = symmetric_gram(views[v]) if ranks.size == 1 else views[v] @ every[v].t()
                return whole.div_(count)  # (n, N)

            first, second, small = gram(0), gram(1), gram(2)
            for v in range(3, len(views)):
                small += gram(v)
            small *= w_small
            of_first = torch.add(small, second, alpha=w_anchors)
            of_second = torch.add(small, first, alpha=w_anchors)
            rows = (first * of_first).sum(dim=1) + (second * small).sum(dim=1)
            of_small = first.add_(second).mul_(w_small)
            products = [(views[g] * views[v]).sum(dim=0, dtype=wide) for g, v in pairs]
            sums = ranks.add(torch.cat([rows.to(wide).sum()[None], *products]))
            diagonals = sums[1:].view(len(pairs), -1) / count  # (pairs, D)
            weights = diagonals.new_full((len(pairs), 1), w_small)  # filled there: a graph holds no copy from the host
            weights[0].fill_(w_anchors)
            redundancy = (sums[0] - (weights * diagonals.square()).sum()).clamp_min(0.0)
            invariance = (weights * (1.0 - diagonals).square()).sum()
        ctx.save_for_backward(of_first, of_second, of_small, diagonals.to(views[0].dtype), *views, *every)
        ctx.count, ctx.views = count, len(views)
        return invariance.to(views[0].dtype), redundancy.to(views[0].dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_inv: Tensor | None, grad_red: Tensor | None) -> tuple[Tensor | None, ...]:
        of_first, of_second, of_small, diagonals, *rest = ctx.saved_tensors
        views, every = rest[: ctx.views], rest[ctx.views :]
        grads: list[Tensor | None] = [None] * len(views)
        if grad_inv is None and grad_red is None:
            return None, None, None, *grads
        straight = [torch.zeros_like(a) for a in views]
        for (g, v), weight, d in zip(comparisons(len(views)), comparisons(len(views)).values(), diagonals, strict=True):
            along = torch.zeros_like(d)
            if grad_inv is not None:
                along += grad_inv * (d - 1.0)
            if grad_red is not None:
                along -= grad_red * d
            along *= 2.0 * weight / ctx.count
            straight[g].addcmul_(views[v], along)
            straight[v].addcmul_(views[g], along)
        with full_precision(views[0]):
            for v, (own, whole) in enumerate(zip(straight, every, strict=True)):
                if grad_red is not None:
                    matrix = (of_first, of_second, of_small)[min(v, 2)]
                    own = own.addmm_(matrix * ((2.0 / ctx.count) * grad_red), whole)
                grads[v] = own
        return None, None, None, *grads
