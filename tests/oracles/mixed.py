"""Mixed Barlow Twins from its formula: the six correlation matrices, in float64. Knows nothing of our code."""

from __future__ import annotations

import numpy as np

from tests.oracles.loss import standardized, terms


def mixing(z1: np.ndarray, z2: np.ndarray, mixed: np.ndarray, alpha: float, pi: np.ndarray) -> float:
    n = len(z1)
    a, b, m = standardized(z1), standardized(z2), standardized(mixed)
    first = m.T @ a / n - (alpha * a.T @ a / n + (1 - alpha) * b[pi].T @ a / n)
    second = m.T @ b / n - (alpha * a.T @ b / n + (1 - alpha) * b[pi].T @ b / n)
    return float(0.5 * (first**2).sum() + 0.5 * (second**2).sum())


def loss(
    z1: np.ndarray,
    z2: np.ndarray,
    mixed: np.ndarray,
    alpha: float,
    pi: np.ndarray,
    *,
    lambd: float,
    lambd_reg: float,
) -> float:
    invariance, redundancy = terms(z1, z2)
    return invariance + lambd * redundancy + lambd * lambd_reg * mixing(z1, z2, mixed, alpha, pi)
