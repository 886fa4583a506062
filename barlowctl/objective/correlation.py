"""The terms of the loss, of the cross-correlation matrix, with closed-form gradients.

Every function here takes embeddings `(n, D)`, normalised (`batch_statistics`) or raw, float32 or float64, and
returns tensors of the same dtype. The terms are `torch.autograd.Function`s, so that what is kept for the
backward pass, beside the embeddings (gathered ones too, in the Gram form over ranks) and the diagonal of C, is one
`D x D` matrix (primal) or two `n x N` ones (Gram).

Over several ranks `(n, D)` is the rank's own rows of a batch of N. Terms are those of the whole batch, the same on
every rank, and a backward pass gives dL / d(own rows) without a factor of the number of ranks, provided that the
gradient of the terms that comes in is the same on every rank:

    primal terms    forward: one all-reduce of D² numbers; backward: none (cross-entropy terms alike)
    Gram terms      forward: an all-gather of 2 N D numbers, an all-reduce of D + 1; backward: none
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from barlowctl.distributed import ALONE, Ranks
from barlowctl.objective.batch_statistics import full_precision, wide_dtype

ROWS_AT_ONCE = 256
"""Rows of a block of `symmetric_gram`: a matrix product of this height is still an efficient one."""


class _PrimalTerms(torch.autograd.Function):
    """Both terms from `C = aᵀ b / count`; with C0 = C without its diagonal and d = diag(C),

    dL/da = (2 red b C0ᵀ + 2 inv (d - 1) b) / count, the mirror image for b,
    where `inv` and `red` are the gradients of the two terms. Over ranks, aᵀ b is summed; a and b in the
    gradient are own rows.
    """

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, count: float, ranks: Ranks) -> tuple[Tensor, Tensor]:
        ctx.set_materialize_grads(False)
        with full_precision(a):
            c = ranks.add(a.t() @ b).div_(count)
            d = c.diagonal().clone()
            c.fill_diagonal_(0.0)
            wide = wide_dtype(a)
            redundancy = torch.linalg.vector_norm(c, dim=1).to(wide).square().sum()
            invariance = (1.0 - d).to(wide).square().sum()
        ctx.save_for_backward(a, b, c, d)
        ctx.count = count
        return invariance.to(a.dtype), redundancy.to(a.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_inv: Tensor | None, grad_red: Tensor | None) -> tuple[Tensor | None, ...]:
        a, b, c, d = ctx.saved_tensors
        diagonal = None if grad_inv is None else (2.0 / ctx.count) * grad_inv * (d - 1.0)
        redundant = None if grad_red is None else (2.0 / ctx.count) * grad_red

        def gradient(other: Tensor, matrix: Tensor) -> Tensor | None:
            straight = None if diagonal is None else other * diagonal
            if redundant is None:
                return straight
            scaled = other * redundant
            return scaled @ matrix if straight is None else torch.addmm(straight, scaled, matrix)

        with full_precision(a):
            grad_a = gradient(b, c.t()) if ctx.needs_input_grad[0] else None
            grad_b = gradient(a, c) if ctx.needs_input_grad[1] else None
        return grad_a, grad_b, None, None


def symmetric_gram(a: Tensor) -> Tensor:
    """`a aᵀ` of `(N, D)`, by blocks of rows: those below the diagonal are formed, those above it copied.

    Of `2 N² D` operations about half are left when N is many blocks of `ROWS_AT_ONCE`; one block is one product.
    """
    gram = a.new_empty(len(a), len(a))
    for begin in range(0, len(a), ROWS_AT_ONCE):
        end = min(begin + ROWS_AT_ONCE, len(a))
        torch.mm(a[begin:end], a[:end].t(), out=gram[begin:end, :end])
        gram[:begin, begin:end] = gram[begin:end, :begin].t()
    return gram


class _GramTerms(torch.autograd.Function):
    """Both terms from GA = a aᵀ and GB = b bᵀ, without the `D x D` matrix: with d = diag(C),

    sum_ij C_ij² = sum(GA * GB) / count²,
    dL/da = 2 red GB a / count² + (2 inv (d - 1) - 2 red d) b / count, the mirror image for b,
    where `inv` and `red` are the gradients of the two terms.

    Alone, half of GA and GB is formed and the rest copied. Over ranks, a and b are gathered, each rank forms
    its own n rows of GA and GB against them, and the two sums are reduced; the gradient of own rows then needs
    nothing more from the others.
    """

    @staticmethod
    def forward(
        ctx: Any, a: Tensor, b: Tensor, count: float, ranks: Ranks, shares: Sequence[int]
    ) -> tuple[Tensor, Tensor]:
        ctx.set_materialize_grads(False)
        with full_precision(a):
            every_a, every_b = ranks.gather(a, shares), ranks.gather(b, shares)  # (N, D)
            if ranks.size == 1:
                gram_a, gram_b = symmetric_gram(a).div_(count), symmetric_gram(b).div_(count)  # (N, N)
            else:
                gram_a, gram_b = (a @ every_a.t()).div_(count), (b @ every_b.t()).div_(count)  # (n, N)
            wide = wide_dtype(a)
            own = torch.cat([(gram_a * gram_b).sum(dim=1).to(wide).sum()[None], (a * b).sum(dim=0, dtype=wide)])
            sums = ranks.add(own)
            everything, d = sums[0], sums[1:] / count
            redundancy = (everything - d.square().sum()).clamp_min(0.0)
            invariance = (1.0 - d).square().sum()
        ctx.save_for_backward(a, b, every_a, every_b, gram_a, gram_b, d.to(a.dtype))
        ctx.count = count
        return invariance.to(a.dtype), redundancy.to(a.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_inv: Tensor | None, grad_red: Tensor | None) -> tuple[Tensor | None, ...]:
        a, b, every_a, every_b, gram_a, gram_b, d = ctx.saved_tensors
        if grad_inv is None and grad_red is None:
            return None, None, None, None, None
        diagonal = torch.zeros_like(d)
        if grad_inv is not None:
            diagonal += grad_inv * (d - 1.0)
        if grad_red is not None:
            diagonal -= grad_red * d
        diagonal *= 2.0 / ctx.count

        def gradient(other: Tensor, every: Tensor, other_gram: Tensor) -> Tensor:
            straight = other * diagonal
            if grad_red is None:
                return straight
            return torch.addmm(straight, other_gram * ((2.0 / ctx.count) * grad_red), every)

        with full_precision(a):
            grad_a = gradient(b, every_a, gram_b) if ctx.needs_input_grad[0] else None
            grad_b = gradient(a, every_b, gram_a) if ctx.needs_input_grad[1] else None
        return grad_a, grad_b, None, None, None


class _CrossEntropyTerms(torch.autograd.Function):
    """-log sum_i exp(C_ii / tau) and log sum_{i != j} exp(max(C_ij, 0) / tau), C = aᵀ b / count.

    The gradient of the maximum at C_ij = 0 is taken as 0.
    """

    @staticmethod
    def forward(
        ctx: Any, a: Tensor, b: Tensor, count: float, temperature: float, ranks: Ranks
    ) -> tuple[Tensor, Tensor]:
        ctx.set_materialize_grads(False)
        with full_precision(a):
            c = ranks.add(a.t() @ b).div_(count)
            d = c.diagonal().clone()
            exponents = c.clamp_min(0.0).div_(temperature).fill_diagonal_(-torch.inf)
            redundancy = torch.logsumexp(torch.logsumexp(exponents, dim=1), dim=0)
            invariance = -torch.logsumexp(d / temperature, dim=0)
        ctx.save_for_backward(a, b, c, d, redundancy)
        ctx.count, ctx.temperature = count, temperature
        return invariance, redundancy

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_inv: Tensor | None, grad_red: Tensor | None) -> tuple[Tensor | None, ...]:
        a, b, c, d, redundancy = ctx.saved_tensors
        tau = ctx.temperature
        if grad_inv is None and grad_red is None:
            return None, None, None, None, None
        with full_precision(a):
            if grad_red is None:
                grad_c = torch.zeros_like(c)
            else:
                grad_c = (c / tau - redundancy).exp_().mul_(c > 0.0).mul_(grad_red / tau)
            if grad_inv is None:
                grad_c.fill_diagonal_(0.0)
            else:
                grad_c.diagonal().copy_(torch.softmax(d / tau, dim=0) * (-grad_inv / tau))
            grad_c.div_(ctx.count)
            grad_a = b @ grad_c.t() if ctx.needs_input_grad[0] else None
            grad_b = a @ grad_c if ctx.needs_input_grad[1] else None
        return grad_a, grad_b, None, None, None


def primal_terms(a: Tensor, b: Tensor, *, count: float, ranks: Ranks = ALONE) -> tuple[Tensor, Tensor]:
    """`sum_i (1 - C_ii)²` and `sum_{i != j} C_ij²` of `C = aᵀ b / count`, through the `D x D` matrix."""
    outcome: tuple[Tensor, Tensor] = _PrimalTerms.apply(a, b, count, ranks)
    return outcome


def gram_terms(
    a: Tensor, b: Tensor, *, count: float, ranks: Ranks = ALONE, shares: Sequence[int] | None = None
) -> tuple[Tensor, Tensor]:
    """The same two terms through two `N x N` matrices, of which a rank holds its own rows.

    `shares`: how many rows each rank has; None: they ask one another.
    """
    shares = ranks.shares(len(a)) if shares is None else shares
    outcome: tuple[Tensor, Tensor] = _GramTerms.apply(a, b, count, ranks, shares)
    return outcome


def cross_entropy_terms(
    a: Tensor, b: Tensor, *, count: float, temperature: float, ranks: Ranks = ALONE
) -> tuple[Tensor, Tensor]:
    """`-log sum_i exp(C_ii / tau)` and `log sum_{i != j} exp(max(C_ij, 0) / tau)` (Table 5, last row)."""
    outcome: tuple[Tensor, Tensor] = _CrossEntropyTerms.apply(a, b, count, temperature, ranks)
    return outcome
