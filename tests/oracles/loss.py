"""The loss from its formula, in float64 numpy, one step after the other. Knows nothing of our code."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

EPS = 1e-5


def standardized(z: np.ndarray) -> np.ndarray:
    return (z - z.mean(axis=0)) / np.sqrt(z.var(axis=0) + EPS)


def matrix(z1: np.ndarray, z2: np.ndarray, normalization: str = "batch") -> np.ndarray:
    """C, entry by entry as the paper's eq. 2 has it, for each of the normalisations of Table 5."""
    z1, z2 = z1.astype(np.float64), z2.astype(np.float64)
    n, d = z1.shape
    if normalization == "none":
        a, b, divisor = z1 - z1.mean(axis=0), z2 - z2.mean(axis=0), n
    else:
        a, b, divisor = standardized(z1), standardized(z2), n
    if normalization == "feature":
        a = np.stack([row / max(np.sqrt((row**2).sum()), 1e-12) for row in a])
        b = np.stack([row / max(np.sqrt((row**2).sum()), 1e-12) for row in b])
        divisor = 1
    c = np.empty((d, d))
    for i in range(d):
        for j in range(d):
            c[i, j] = (a[:, i] * b[:, j]).sum() / divisor
    return c


def terms(
    z1: np.ndarray,
    z2: np.ndarray,
    *,
    normalization: str = "batch",
    criterion: str = "cross-correlation",
    temperature: float = 0.1,
) -> tuple[float, float]:
    """Invariance and redundancy term, unweighted."""
    c = matrix(z1, z2, normalization)
    on_diagonal = np.eye(c.shape[0], dtype=bool)
    on, off = c[on_diagonal], c[~on_diagonal]
    if criterion == "cross-correlation":
        return float(((1 - on) ** 2).sum()), float((off**2).sum())
    return (
        float(-np.log(np.exp(on / temperature).sum())),
        float(np.log(np.exp(np.maximum(off, 0) / temperature).sum())),
    )


def loss(z1: np.ndarray, z2: np.ndarray, *, lambd: float, terms_used: str = "both", **options: object) -> float:
    invariance, redundancy = terms(z1, z2, **options)  # type: ignore[arg-type]
    return (terms_used != "redundancy") * invariance + (terms_used != "invariance") * lambd * redundancy


def gradient(z1: np.ndarray, z2: np.ndarray, *, lambd: float) -> tuple[np.ndarray, np.ndarray]:
    """dL/dz1 and dL/dz2 of the baseline by the chain rule: L -> C -> standardised z -> z."""
    z1, z2 = z1.astype(np.float64), z2.astype(np.float64)
    n, d = z1.shape
    a, b = standardized(z1), standardized(z2)
    c = a.T @ b / n
    dc = 2 * lambd * c
    dc[np.arange(d), np.arange(d)] = -2 * (1 - np.diag(c))
    return _through_standardization(z1, b @ dc.T / n), _through_standardization(z2, a @ dc / n)


def _through_standardization(z: np.ndarray, grad: np.ndarray) -> np.ndarray:
    """By column, with the full Jacobian d zhat_b / d z_k = (delta_bk - 1/N - zhat_b zhat_k / N) / s."""
    n, d = z.shape
    out = np.empty_like(z)
    for i in range(d):
        s = np.sqrt(z[:, i].var() + EPS)
        zhat = (z[:, i] - z[:, i].mean()) / s
        jacobian = (np.eye(n) - 1 / n - np.outer(zhat, zhat) / n) / s
        out[:, i] = jacobian.T @ grad[:, i]
    return out


def numerical_gradient(function: Callable[[np.ndarray], float], z: np.ndarray, step: float = 1e-5) -> np.ndarray:
    """Central differences of a scalar function of a matrix."""
    out = np.empty_like(z)
    for index in np.ndindex(*z.shape):
        up, down = z.copy(), z.copy()
        up[index] += step
        down[index] -= step
        out[index] = (function(up) - function(down)) / (2 * step)
    return out
