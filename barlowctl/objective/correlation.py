"""Batch statistics of embeddings, and the terms of the loss with closed-form gradients.

Every function here takes normalised or raw embeddings `(N, D)`, float32 or float64, and returns a
tensor of the same dtype. The terms are `torch.autograd.Function`s, so that what is kept for the
backward pass is one `D x D` matrix (primal) or two `N x N` ones (Gram) and nothing else.

Seams for several devices: `batch_moments` is the only place where statistics over the batch are
formed, `_Standardize.backward` the only place where their gradient is, and the terms take `count`,
the number by which sums over the batch are divided, instead of reading it off the shape.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

EPS = 1e-5
"""Added to the variance, as `torch.nn.BatchNorm1d` does and the authors' code therefore does."""


def full_precision(tensor: Tensor) -> torch.autocast:
    """A context without autocast: products of the loss are taken in the dtype of their operands."""
    return torch.autocast(device_type=tensor.device.type, enabled=False)


def wide_dtype(tensor: Tensor) -> torch.dtype:
    """The dtype sums are accumulated in: float64, or float32 on devices that lack float64."""
    return torch.float32 if tensor.device.type == "mps" else torch.float64


def batch_moments(z: Tensor) -> tuple[Tensor, Tensor]:
    """Centred embeddings `(N, D)` and their biased variance `(D,)`, from two passes over `z`.

    The second pass also takes out what rounding left of the mean, so a large offset costs no accuracy
    beyond that of `z` itself.
    """
    centered = center(z)
    centered -= centered.mean(dim=0)
    variance = centered.square().mean(dim=0, dtype=wide_dtype(z)).to(z.dtype)
    return centered, variance


class _Standardize(torch.autograd.Function):
    """Batch norm without affine parameters; its closed-form gradient keeps only the output."""

    @staticmethod
    def forward(ctx: Any, z: Tensor) -> Tensor:
        centered, variance = batch_moments(z)
        inverse_std = torch.rsqrt(variance + EPS)
        standardized = centered.mul_(inverse_std)
        ctx.save_for_backward(standardized, inverse_std)
        return standardized

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        standardized, inverse_std = ctx.saved_tensors
        projection = (grad * standardized).mean(dim=0)
        return torch.addcmul(grad - grad.mean(dim=0), standardized, projection, value=-1).mul_(inverse_std)


def standardize(z: Tensor) -> Tensor:
    """`(z - mean) / sqrt(variance + 1e-5)` along the batch, biased variance. `(N, D)` -> `(N, D)`.

    A constant dimension comes out as zeros, and its gradient is finite.
    """
    outcome: Tensor = _Standardize.apply(z)
    return outcome


def center(z: Tensor) -> Tensor:
    """`z - mean` along the batch. `(N, D)` -> `(N, D)`."""
    return z - z.mean(dim=0, dtype=wide_dtype(z)).to(z.dtype)


class _PrimalTerms(torch.autograd.Function):
    """Both terms from `C = aᵀ b / count`; with C0 = C without its diagonal and d = diag(C),

    dL/da = (2 red b C0ᵀ + 2 inv (d - 1) b) / count, the mirror image for b,
    where `inv` and `red` are the gradients of the two terms.
    """

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, count: float) -> tuple[Tensor, Tensor]:
        ctx.set_materialize_grads(False)
        with full_precision(a):
            c = (a.t() @ b).div_(count)
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
        return grad_a, grad_b, None


class _GramTerms(torch.autograd.Function):
    """Both terms from GA = a aᵀ and GB = b bᵀ, without the `D x D` matrix: with d = diag(C),

    sum_ij C_ij² = sum(GA * GB) / count²,
    dL/da = 2 red GB a / count² + (2 inv (d - 1) - 2 red d) b / count, the mirror image for b,
    where `inv` and `red` are the gradients of the two terms.
    """

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, count: float) -> tuple[Tensor, Tensor]:
        ctx.set_materialize_grads(False)
        with full_precision(a):
            gram_a, gram_b = (a @ a.t()).div_(count), (b @ b.t()).div_(count)
            wide = wide_dtype(a)
            d = (a * b).sum(dim=0, dtype=wide).div_(count)
            everything = (gram_a * gram_b).sum(dim=1).to(wide).sum()
            redundancy = (everything - d.square().sum()).clamp_min(0.0)
            invariance = (1.0 - d).square().sum()
        ctx.save_for_backward(a, b, gram_a, gram_b, d.to(a.dtype))
        ctx.count = count
        return invariance.to(a.dtype), redundancy.to(a.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_inv: Tensor | None, grad_red: Tensor | None) -> tuple[Tensor | None, ...]:
        a, b, gram_a, gram_b, d = ctx.saved_tensors
        if grad_inv is None and grad_red is None:
            return None, None, None
        diagonal = torch.zeros_like(d)
        if grad_inv is not None:
            diagonal += grad_inv * (d - 1.0)
        if grad_red is not None:
            diagonal -= grad_red * d
        diagonal *= 2.0 / ctx.count

        def gradient(own: Tensor, other: Tensor, other_gram: Tensor) -> Tensor:
            straight = other * diagonal
            if grad_red is None:
                return straight
            return torch.addmm(straight, other_gram * ((2.0 / ctx.count) * grad_red), own)

        with full_precision(a):
            grad_a = gradient(a, b, gram_b) if ctx.needs_input_grad[0] else None
            grad_b = gradient(b, a, gram_a) if ctx.needs_input_grad[1] else None
        return grad_a, grad_b, None


class _CrossEntropyTerms(torch.autograd.Function):
    """-log sum_i exp(C_ii / tau) and log sum_{i != j} exp(max(C_ij, 0) / tau), C = aᵀ b / count.

    The gradient of the maximum at C_ij = 0 is taken as 0.
    """

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, count: float, temperature: float) -> tuple[Tensor, Tensor]:
        ctx.set_materialize_grads(False)
        with full_precision(a):
            c = (a.t() @ b).div_(count)
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
            return None, None, None, None
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
        return grad_a, grad_b, None, None


def primal_terms(a: Tensor, b: Tensor, *, count: float) -> tuple[Tensor, Tensor]:
    """`sum_i (1 - C_ii)²` and `sum_{i != j} C_ij²` of `C = aᵀ b / count`, through the `D x D` matrix."""
    outcome: tuple[Tensor, Tensor] = _PrimalTerms.apply(a, b, count)
    return outcome


def gram_terms(a: Tensor, b: Tensor, *, count: float) -> tuple[Tensor, Tensor]:
    """The same two terms through two `N x N` matrices."""
    outcome: tuple[Tensor, Tensor] = _GramTerms.apply(a, b, count)
    return outcome


def cross_entropy_terms(a: Tensor, b: Tensor, *, count: float, temperature: float) -> tuple[Tensor, Tensor]:
    """`-log sum_i exp(C_ii / tau)` and `log sum_{i != j} exp(max(C_ij, 0) / tau)` (Table 5, last row)."""
    outcome: tuple[Tensor, Tensor] = _CrossEntropyTerms.apply(a, b, count, temperature)
    return outcome
