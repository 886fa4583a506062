"""A matrix with its singular values made equal: the orthogonal factor of its polar decomposition, nearly."""

from __future__ import annotations

import torch
from torch import Tensor

from barlowctl import processor

POLYNOMIALS = ((7.9347, -22.2581, 15.8015), (3.6366, -2.7219, 0.5365), (2.6613, -1.9772, 0.4526))
"""Of each iteration, `a, b, c` of `a s + b s³ + c s⁵`, by which it changes a singular value s.

Each is nearest to 1, in the largest error, on what the ones before it make of [0.01, 1] (Amsel et al. 2025, "The Polar
Express", section 3: greedy is optimal). The first leaves 2 % of room above 1 for rounding.
"""

SMALLEST_NORM = 1e-7
FEW_ROWS = 64  # a product of smaller matrices is the call, which takes several times as long in bfloat16 on a CPU


def orthogonalize(matrix: Tensor) -> Tensor:
    """`U f(S) Vᵀ` of a matrix `U S Vᵀ`, same shape and dtype: f(s) is near 1 where s is not small.

    Three iterations of odd polynomials f₃(f₂(f₁(s / N))), N = (Σ s⁸)^(1/8), which is between the largest singular value
    and 1.5 times that where up to 25 are as large. Between N / 100 and N they give 0.72 to 1.27, below up to 77 s / N.
    Zeros stay zeros. Products are in bfloat16; those of few rows, and all on a CPU that only emulates it, in float32.
    Singular vectors are the matrix's up to their rounding.

    Deviation: Jordan et al. 2024 have five iterations of one polynomial, which give 0.68 to 1.20 and up to
    485 s / N where N is the Frobenius norm, two to three times as large in training.
    """
    rows, columns = matrix.shape
    tall = rows > columns
    in_fp32 = min(matrix.shape) <= FEW_ROWS or (matrix.device.type == "cpu" and not processor.multiplies_bf16())
    x = (matrix / matrix.norm().clamp_min(SMALLEST_NORM)).to(torch.float32 if in_fp32 else torch.bfloat16)
    gram = x.t() @ x if tall else x @ x.t()
    factor = _first_factor(gram)
    if in_fp32:
        factor = _all_factors(factor, gram)
        factor = factor.t() if tall else factor  # symmetric up to rounding: the first is applied first
    else:
        for a, b, c in POLYNOMIALS[1:]:
            x = x @ factor if tall else factor @ x
            factor = _factor(x.t() @ x if tall else x @ x.t(), a, b, c)
    return (x @ factor if tall else factor @ x).to(matrix.dtype)


def _first_factor(gram: Tensor) -> Tensor:
    """The first polynomial's, of a matrix divided by N: `N² = |gram²|^(1/2)`, so that N takes no further product."""
    (a, b, c), squared = POLYNOMIALS[0], gram @ gram
    norm = squared.float().norm().clamp_min(SMALLEST_NORM).sqrt()  # N²
    factor = (gram.float() * (b * norm**-1.5)).add_(squared.float() * (c * norm**-2.5))
    factor.diagonal().add_(a * norm**-0.5)
    return factor.to(gram.dtype)


def _factor(gram: Tensor, a: float, b: float, c: float) -> Tensor:
    """`a I + b gram + c gram²`: a matrix times this has its singular values changed by that polynomial."""
    factor = torch.addmm(gram, gram, gram, beta=b, alpha=c)
    factor.diagonal().add_(a)
    return factor


def _all_factors(factor: Tensor, gram: Tensor) -> Tensor:
    """The product of all iterations' factors, of square matrices alone: the gram of `factor x` is `factor gram factor`.

    In bfloat16 a gram's rounding would hide singular values below a twentieth of the largest. In float32 it is the
    cheaper way where rows are one and a half times as long as they are many, and about level where they are not.
    """
    product = factor
    for a, b, c in POLYNOMIALS[1:]:
        gram = factor @ gram @ factor
        factor = _factor(gram, a, b, c)
        product = factor @ product
    return product
