"""The VICReg loss (Bardes, Ponce, LeCun, ICLR 2022, arXiv 2105.04906), over any number of ranks.

    s(Z1, Z2) = mean_bd (Z1 - Z2)²                                       invariance
    v(Z)      = mean_d max(0, 1 - sqrt(Var_d + 1e-4))                    variance, a hinge on each dimension
    c(Z)      = sum_{i != j} Cov_ij² / D                                 covariance
    L         = 25 s(Z1, Z2) + 25 (v(Z1) + v(Z2)) / 2 + (c(Z1) + c(Z2))

Var and Cov are divided by N - 1. Two factors are those of the authors' code (`main_vicreg.py`), where the paper prints
none: the mean of s over dimensions (the paper sums over them) and the 1/2 of the variance term.

`c` takes one of the two forms that Barlow Twins has (`docs/objective.md`): with A the centred rows,
`||Aᵀ A||² = ||A Aᵀ||²`, and of the two matrices the cheaper one is formed. Gradients are in closed form: what is kept
is A (gathered too, in the Gram form over ranks) and that matrix.

Deviation: N is the number of rows that are there, also in the last, smaller batch of an epoch, where the authors divide
the covariance by the nominal batch size minus one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from barlowctl.distributed import ALONE, Ranks
from barlowctl.objective.barlow_twins import Form, check_embeddings, check_option, choose_form
from barlowctl.objective.batch_statistics import center, full_precision, wide_dtype
from barlowctl.objective.correlation import symmetric_gram

EPS = 1e-4
"""Added to the variance under its root."""


class VICRegTerms(NamedTuple):
    """Scalars. The three terms carry no weight and, with their weights, add up to the loss; they carry no gradient."""

    loss: Tensor
    invariance: Tensor
    variance: Tensor
    covariance: Tensor


def vicreg_loss(
    z1: Tensor,
    z2: Tensor,
    *,
    invariance: float = 25.0,
    variance: float = 25.0,
    covariance: float = 1.0,
    form: Form = "auto",
    ranks: Ranks = ALONE,
    shares: Sequence[int] | None = None,
) -> VICRegTerms:
    """VICReg loss of two `(N, D)` batches of embeddings, row b of both from the same image.

    Computed in float32 (float64 for float64 input), also under autocast. Over several ranks each gives its own rows,
    and gets the loss of the whole batch and the gradient of its rows without a factor of the number of ranks (see
    `distributed`).

    Args:
        z1, z2: embeddings `(N, D)`, floating point, N >= 2 over all ranks.
        invariance, variance, covariance: weights of the three terms.
        form: of the covariance term: "primal" (`D x D`), "gram" (`N x N`), or "auto": see `barlow_twins.choose_form`.
        shares: how many rows each rank has; None: they ask one another.

    Raises:
        UserError: fewer than two samples, shapes that differ, or an unknown form.
    """
    check_option("form", form, get_args(Form))
    check_embeddings(z1, z2, ranks)
    shares = ranks.shares(len(z1)) if shares is None else shares
    n, d = sum(shares), z1.shape[1]
    chosen = choose_form(n, d, ranks.size) if form == "auto" else form
    dtype = torch.promote_types(torch.promote_types(z1.dtype, z2.dtype), torch.float32)
    with full_precision(z1):
        views = [z.to(dtype) for z in (z1, z2)]
        distance: Tensor = _MeanSquaredDistance.apply(*views, float(n * d), ranks)
        hinge, shared = distance.new_zeros(()), distance.new_zeros(())
        for z in views:
            squares, variances = covariance_terms(center(z, ranks), form=chosen, ranks=ranks, shares=shares)
            hinge = hinge + torch.relu(1.0 - torch.sqrt(variances + EPS)).mean() / 2.0
            shared = shared + squares / d
        loss = invariance * distance + variance * hinge + covariance * shared
    return VICRegTerms(loss, distance.detach(), hinge.detach(), shared.detach())


def covariance_terms(
    centered: Tensor, *, form: Literal["primal", "gram"], ranks: Ranks = ALONE, shares: Sequence[int] | None = None
) -> tuple[Tensor, Tensor]:
    """`sum_{i != j} Cov_ij²` and the variances `(D,)` of centred rows `(n, D)`, over all ranks, divided by N - 1."""
    shares = ranks.shares(len(centered)) if shares is None else shares
    outcome: tuple[Tensor, Tensor] = _Covariance.apply(centered, form, ranks, shares)
    return outcome


class _MeanSquaredDistance(torch.autograd.Function):
    """`sum (a - b)² / count` over all ranks; dL/da = 2 (a - b) / count, the negative of it for b."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, count: float, ranks: Ranks) -> Tensor:
        difference = a - b
        ctx.save_for_backward(difference)
        ctx.count = count
        total = ranks.add(difference.square().sum(dim=0).to(wide_dtype(a)).sum()[None])[0]
        return (total / count).to(a.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (difference,) = ctx.saved_tensors
        own = difference * (2.0 / ctx.count * grad)
        return own, -own, None, None


class _Covariance(torch.autograd.Function):
    """With m = N - 1, V = diag(Cov), and `red` and `var` the gradients of the two outcomes,

    sum_{i != j} Cov_ij² = ||AᵀA||² / m² - sum V²,
    dL/dA = 4 red / m (A AᵀA / m - A V) + 2 / m A var, where A AᵀA = A (AᵀA) = (A Aᵀ) A.
    Over ranks, AᵀA is summed (primal), or A is gathered (gram) and each rank forms its own rows of A Aᵀ; A in the
    gradient is own rows.
    """

    @staticmethod
    def forward(
        ctx: Any, a: Tensor, form: Literal["primal", "gram"], ranks: Ranks, shares: Sequence[int]
    ) -> tuple[Tensor, Tensor]:
        ctx.set_materialize_grads(False)
        m, wide = float(sum(shares) - 1), wide_dtype(a)
        with full_precision(a):
            if form == "primal":
                every = a
                matrix = (symmetric_gram(a.t()) if ranks.size == 1 else ranks.add(a.t() @ a)).div_(m)  # (D, D)
                variances = matrix.diagonal().to(wide, copy=True)
                squares = torch.linalg.vector_norm(matrix, dim=1).to(wide).square().sum()
            else:
                every = ranks.gather(a, shares)  # (N, D)
                matrix = (symmetric_gram(a) if ranks.size == 1 else a @ every.t()).div_(m)  # (n, N)
                own = torch.cat([matrix.square().sum(dim=1).to(wide).sum()[None], a.square().sum(dim=0, dtype=wide)])
                sums = ranks.add(own)
                squares, variances = sums[0], sums[1:] / m
            redundancy = (squares - variances.square().sum()).clamp_min(0.0)
        ctx.save_for_backward(a, every, matrix, variances.to(a.dtype))
        ctx.m, ctx.form = m, form
        return redundancy.to(a.dtype), variances.to(a.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_red: Tensor | None, grad_var: Tensor | None) -> tuple[Tensor | None, ...]:
        a, every, matrix, variances = ctx.saved_tensors
        along = torch.zeros_like(variances)
        if grad_var is not None:
            along += grad_var * (2.0 / ctx.m)
        if grad_red is not None:
            along -= variances * grad_red * (4.0 / ctx.m)
        grad = a * along
        if grad_red is not None:
            with full_precision(a):
                scaled = grad_red * (4.0 / ctx.m)
                if ctx.form == "primal":
                    grad = torch.addmm(grad, a * scaled, matrix)
                else:
                    grad = torch.addmm(grad, matrix * scaled, every)
        return grad, None, None, None
