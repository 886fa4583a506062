"""Mixed Barlow Twins (Bandara, De Melo, Patel, 2023, arXiv 2312.02151): a third view mixed of both, that must embed so.

    x_m    = alpha x_1 + (1 - alpha) x_2[pi]                 alpha ~ Beta(1, 1), one number a step; pi: a permutation
    L      = L_BT(z_1, z_2) + lambd lambd_reg L_reg
    L_reg  = ( ||C_m1 - C_m1*||² + ||C_m2 - C_m2*||² ) / 2
    C_mk   = z_mᵀ z_k / N,    C_mk* = ( alpha z_1 + (1 - alpha) z_2[pi] )ᵀ z_k / N           z standardised

The six products of that are two: with r = z_m - alpha z_1 - (1 - alpha) z_2[pi], C_mk - C_mk* = rᵀ z_k / N. Like the
loss of Barlow Twins it takes the smaller matrices, `||rᵀ z||² = <r rᵀ, z zᵀ>`, in the Gram form.

Deviation: in the target of C_m2 the authors' `main_imagenet.py` has z_2ᵀ z_2 where the formula, their README and their
`main.py` have z_1ᵀ z_2: ours is the formula. z is standardised as in Barlow Twins (over all ranks, biased), where their
code takes the unbiased standard deviation of one device.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from barlowctl.distributed import ALONE, Ranks
from barlowctl.objective.barlow_twins import LAMBD, check_embeddings, choose_form
from barlowctl.objective.batch_statistics import full_precision, standardize, wide_dtype
from barlowctl.objective.correlation import gram_terms, primal_terms, symmetric_gram


class MixedTerms(NamedTuple):
    """Scalars; `loss = invariance + lambd (redundancy + lambd_reg mixing)`, and the terms carry no gradient."""

    loss: Tensor
    invariance: Tensor
    redundancy: Tensor
    mixing: Tensor


def mixed_barlow_twins_loss(
    z1: Tensor,
    z2: Tensor,
    mixed: Tensor,
    *,
    alpha: Tensor,
    permutation: Tensor,
    lambd: float = LAMBD,
    lambd_reg: float | Tensor = 1.0,
    form: Literal["auto", "primal", "gram"] = "auto",
    ranks: Ranks = ALONE,
    shares: Sequence[int] | None = None,
) -> MixedTerms:
    """The loss of `(N, D)` embeddings of both views and of the mixed one, each with a row for each place of the batch.

    Computed in float32 (float64 for float64 input), also under autocast. Over several ranks each gives its own rows,
    and gets the loss of the whole batch and the gradient of its rows without a factor of the number of ranks (see
    `distributed`).

    Args:
        alpha: 0-dimensional, the share of view 1 in the mixed images; the same on every rank.
        permutation: int64 `(n,)`, the row of view 2, among this rank's own, that each mixed image has the rest of.
        lambd: weight of the redundancy term. lambd_reg: weight of the mixing term, as a multiple of `lambd`.
        form, shares: see `barlow_twins_loss`.

    Raises:
        UserError: fewer than two samples, or shapes that differ.
    """
    check_embeddings(z1, z2, ranks)
    check_embeddings(z1, mixed, ranks)
    shares = ranks.shares(len(z1)) if shares is None else shares
    n, d = sum(shares), z1.shape[1]
    dtype = torch.promote_types(torch.promote_types(z1.dtype, z2.dtype), torch.float32)
    chosen = choose_form(n, d, ranks.size) if form == "auto" else form
    count = float(n)
    with full_precision(z1):
        a, b, m = (standardize(z.to(dtype), ranks) for z in (z1, z2, mixed))
        if chosen == "gram":
            invariance, redundancy = gram_terms(a, b, count=count, ranks=ranks, shares=shares)
        else:
            invariance, redundancy = primal_terms(a, b, count=count, ranks=ranks)
        share = alpha.to(dtype)
        rest = m - share * a - (1.0 - share) * b[permutation]
        squares: Tensor = _SquaredProducts.apply(rest, a, b, count, chosen, ranks, shares)
        mixing = squares / 2.0
        loss = invariance + lambd * redundancy + lambd * lambd_reg * mixing
    return MixedTerms(loss, invariance.detach(), redundancy.detach(), mixing.detach())


class _SquaredProducts(torch.autograd.Function):
    """`(||rᵀa||² + ||rᵀb||²) / count²`; with C_a = rᵀa / count, or R = r rᵀ / count and S = (a aᵀ + b bᵀ) / count,

    dL/dr = 2 (a C_aᵀ + b C_bᵀ) / count = 2 S r / count,    dL/da = 2 r C_a / count = 2 R a / count, likewise for b.
    Over ranks, C is summed (primal), or r, a and b are gathered and each rank forms its own rows of R and S (gram).
    """

    @staticmethod
    def forward(
        ctx: Any,
        r: Tensor,
        a: Tensor,
        b: Tensor,
        count: float,
        form: Literal["primal", "gram"],
        ranks: Ranks,
        shares: Sequence[int],
    ) -> Tensor:
        wide = wide_dtype(r)
        ctx.count, ctx.form = count, form
        with full_precision(r):
            if form == "primal":
                c_a, c_b = ranks.add(torch.stack([r.t() @ a, r.t() @ b])).div_(count)
                ctx.save_for_backward(r, a, b, c_a, c_b)
                total = sum(torch.linalg.vector_norm(c, dim=1).to(wide).square().sum() for c in (c_a, c_b))
                return torch.as_tensor(total).to(r.dtype)
            every = [ranks.gather(x, shares) for x in (r, a, b)]  # (N, D)
            if ranks.size == 1:
                gram_r, gram_a, gram_b = (symmetric_gram(x) for x in (r, a, b))  # (N, N)
            else:
                gram_r, gram_a, gram_b = (x @ whole.t() for x, whole in zip((r, a, b), every, strict=True))  # (n, N)
            gram_r, gram = gram_r.div_(count), gram_a.add_(gram_b).div_(count)
            ctx.save_for_backward(*every, gram_r, gram)
            own = (gram_r * gram).sum(dim=1).to(wide).sum()[None]
            return ranks.add(own)[0].clamp_min(0.0).to(r.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        scale = 2.0 / ctx.count * grad
        r, a, b, first, second = ctx.saved_tensors
        with full_precision(r):
            if ctx.form == "primal":
                of_r = torch.addmm((a * scale) @ first.t(), b * scale, second.t())
                return of_r, (r * scale) @ first, (r * scale) @ second, None, None, None, None
            of_r, of_all = first * scale, second * scale
            return of_all @ r, of_r @ a, of_r @ b, None, None, None, None
