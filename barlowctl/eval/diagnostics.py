"""Is the representation collapsing? Numbers computed from features or embeddings alone, without labels."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from barlowctl.errors import UserError

SHORTEST = 1e-300
"""Length of a row in float64 below which it is 0: torch's 1e-12 would leave small features short, as if collapsed."""


class NotFinite(UserError):
    """There is nothing to compute: the features, or embeddings, contain NaN or infinity."""


_NOT_FINITE = "diagnostics: the features contain NaN or infinity"


class CorrelationSummary(NamedTuple):
    """The cross-correlation matrix in two numbers: 1 and 0 for a loss of zero."""

    mean_diagonal: float
    rms_off_diagonal: float


@torch.inference_mode()
def feature_spread(features: Tensor) -> float:
    """`sqrt(F)` times the mean over dimensions of the standard deviation of length-1 features `(N, F)`.

    The standard deviation is the biased one over the N samples, after every sample was scaled to unit
    length. 1: directions are spread evenly; 0: all samples point the same way (collapse). SimSiam
    (arXiv 2011.10566, section 4.1) shows the same number without the factor, against 1 / sqrt(F).
    """
    unit = torch.nn.functional.normalize(_checked(features), dim=1, eps=SHORTEST)
    return float(unit.std(dim=0, correction=0).mean() * unit.shape[1] ** 0.5)


@torch.inference_mode()
def effective_rank(features: Tensor, *, epsilon: float = 1e-7) -> float:
    """RankMe of features `(N, F)` (Garrido et al. 2023, arXiv 2210.02885, eq. 1 and 2).

    `exp(-sum_k p_k log p_k)`, `p_k = sigma_k / sum(sigma) + epsilon`, over the min(N, F) singular values
    of the features as they are (not centred). Between 1 (one direction) and min(N, F) (all alike). All
    zeros have rank 0.
    """
    return _rank(_singular_values(features), epsilon)


@torch.inference_mode()
def effective_rank_in_parts(batches: Iterable[Tensor], rows: int, *, epsilon: float = 1e-7) -> float:
    """`effective_rank` of features `(rows, F)` that come a batch of rows at a time, and are not held for rows >= F.

    The Gram matrix `(F, F)` is summed in float64 where the batches are; its eigenvalues are found on the CPU.
    """
    gram: Tensor | None = None
    few = []
    for batch in batches:
        if not batch.isfinite().all():
            raise NotFinite(_NOT_FINITE)
        if rows < batch.shape[1]:
            few.append(batch.cpu())
            continue
        x = batch.double()
        gram = x.t() @ x if gram is None else gram.addmm_(x.t(), x)
    return effective_rank(torch.cat(few), epsilon=epsilon) if gram is None else _rank(_roots(gram.cpu()), epsilon)


def _rank(sigma: Tensor, epsilon: float) -> float:
    total = sigma.sum()
    if total == 0.0:
        return 0.0
    p = sigma / total + epsilon
    return float(torch.exp(-(p * p.log()).sum()))


@torch.inference_mode()
def spectrum_decay(features: Tensor) -> float:
    """alpha of a power law `lambda_k ~ k^-alpha` through the eigenvalues of the features' covariance.

    Least squares in log-log over the eigenvalues above 1e-10 of the largest, all with the same weight (alpha-ReQ,
    Agrawal et al. 2022). 0: flat; large: few directions carry the variance. NaN with fewer than two eigenvalues.

    Deviation: the authors' code (`fastssl/utils/powerlaw.py`, called by its `train_model.py`) fits eigenvalues 4 to
    100 alone, weighted by 1 / k, which narrow features do not have; the steep end of the spectrum counts here too, so
    that values are larger than theirs.
    """
    features = _checked(features)
    eigenvalues = _singular_values(features - features.mean(dim=0)).square()
    eigenvalues = eigenvalues[eigenvalues > 1e-10 * eigenvalues[0]]
    if len(eigenvalues) < 2:
        return float("nan")
    x = torch.arange(1, len(eigenvalues) + 1, dtype=torch.float64).log()
    y = eigenvalues.log()
    x = x - x.mean()
    return float(-(x * y).sum() / x.square().sum())


@torch.inference_mode()
def correlation_summary(z1: Tensor, z2: Tensor) -> CorrelationSummary:
    """Mean of the diagonal and root mean square off the diagonal of the cross-correlation of `(N, D)` views.

    The matrix is the paper's eq. 2 with standard deviations that are at least 1e-12, in float64, formed
    by blocks of rows: `D²` numbers are never held. A constant dimension has correlation 0.
    """
    if z1.shape != z2.shape:
        raise UserError(f"embeddings of two views differ in shape: {tuple(z1.shape)} and {tuple(z2.shape)}")
    a, b = (_standardized(_checked(z)) for z in (z1, z2))
    n, d = a.shape
    diagonal = (a * b).mean(dim=0)
    if d == 1:
        return CorrelationSummary(float(diagonal.mean()), 0.0)
    squares = sum(float((block.t() @ b / n).square().sum()) for block in a.split(1024, dim=1))
    off_diagonal = max(squares - float(diagonal.square().sum()), 0.0)
    return CorrelationSummary(float(diagonal.mean()), (off_diagonal / (d * (d - 1))) ** 0.5)


COLLAPSED = 0.05
"""Spread of directions below which different images look the same to a network."""


def read_spread(spread: float, what: str) -> str | None:
    """What is to be said of a `feature_spread` near 0; None where it is not. `what`: whose it is."""
    if spread >= COLLAPSED:
        return None
    return f"collapsed: the {what} of different images point the same way (spread {spread:.3f}; 1: evenly spread)"


def read_correlation(mean_diagonal: float, rms_off_diagonal: float, rank: float) -> str:
    """What the numbers of C and the effective rank of the features say, in a sentence.

    The limits are rules of thumb from the runs in docs/evaluation.md, not results of the paper.
    """
    numbers = f"mean diagonal {mean_diagonal:.2f}, off-diagonal {rms_off_diagonal:.2f}, effective rank {rank:.0f}"
    if rms_off_diagonal > 0.6 or rank < 5:
        return f"collapsed: dimensions say the same thing ({numbers})"
    if mean_diagonal < 0.3:
        return f"not invariant: little of the embeddings survives the distortions ({numbers})"
    if rms_off_diagonal > 0.3:
        apart = "more training, or more weight on the term that takes them apart"
        return f"redundant: dimensions still share much; {apart} ({numbers})"
    return f"healthy: invariant and spread over many directions ({numbers})"


@torch.inference_mode()
def correlation_spectrum(z1: Tensor, z2: Tensor) -> Tensor:
    """Singular values `(min(N, D),)` of the cross-correlation of `(N, D)` views, descending, float64.

    All are 1 for a loss of zero. Their squares add up to the sum of squares of all entries, which is what the
    redundancy term (and the diagonal) is made of. With N < D samples only N of them can differ from 0, and with N of
    the order of D they spread by chance alone: read the shape, and compare at equal N. `D²` numbers are held only
    where D <= N: for D > N, sigma(aᵀ b) are those of an N x N matrix made of the factors of a aᵀ and b bᵀ.
    """
    if z1.shape != z2.shape:
        raise UserError(f"embeddings of two views differ in shape: {tuple(z1.shape)} and {tuple(z2.shape)}")
    a, b = (_standardized(_checked(z)) for z in (z1, z2))
    n, d = a.shape
    product = a.t() @ b if d <= n else _gram_factor(a).t() @ _gram_factor(b)
    return torch.linalg.svdvals(product / n)


def _gram_factor(a: Tensor) -> Tensor:
    """A symmetric `(N, N)` matrix r with r rᵀ = a aᵀ."""
    values, vectors = torch.linalg.eigh(a @ a.t())
    return (vectors * values.clamp_min(0.0).sqrt()) @ vectors.t()


@torch.inference_mode()
def correlation_block(z1: Tensor, z2: Tensor, *, size: int = 128) -> Tensor:
    """The cross-correlation of the first `size` dimensions of `(N, D)` views, float32: a look at C.

    Dimensions have no order, so the first ones stand for all.
    """
    a, b = (_standardized(_checked(z[:, :size])) for z in (z1, z2))
    return (a.t() @ b / len(a)).float()


@torch.inference_mode()
def eigenspectrum(features: Tensor) -> Tensor:
    """Eigenvalues of the covariance of features `(N, F)` as shares of their sum, descending, float64."""
    features = _checked(features)
    eigenvalues = _singular_values(features - features.mean(dim=0)).square()
    return eigenvalues / eigenvalues.sum().clamp_min(1e-300)


def _standardized(z: Tensor) -> Tensor:
    centered = z - z.mean(dim=0)
    return centered / centered.square().mean(dim=0).sqrt().clamp_min(1e-12)


def _singular_values(features: Tensor) -> Tensor:
    """All min(N, F) of them, descending, float64 on the CPU.

    From the smaller Gram matrix in float64, which is exact enough down to 1e-8 of the largest and takes
    seconds less than a decomposition of the features.
    """
    x = _checked(features)
    return _roots(x.t() @ x if x.shape[0] >= x.shape[1] else x @ x.t())


def _roots(gram: Tensor) -> Tensor:
    return torch.linalg.eigvalsh(gram).clamp_min(0.0).flip(0).sqrt()


def _checked(features: Tensor) -> Tensor:
    if features.ndim != 2 or features.shape[0] < 2 or features.shape[1] < 1:
        raise UserError(
            f"diagnostics of features of shape {tuple(features.shape)}",
            allowed="a matrix (samples, features) with at least 2 samples",
        )
    if not features.isfinite().all():
        raise NotFinite(_NOT_FINITE)
    return features.detach().cpu().double()
