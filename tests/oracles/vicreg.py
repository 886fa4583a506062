"""VICReg from its formula, in float64, number by number. Knows nothing of our code."""

from __future__ import annotations

import math

import numpy as np

EPS = 1e-4


def terms(z1: np.ndarray, z2: np.ndarray) -> tuple[float, float, float]:
    """Invariance, variance and covariance term, unweighted."""
    n, d = z1.shape
    invariance = sum((float(z1[b, i]) - float(z2[b, i])) ** 2 for b in range(n) for i in range(d)) / (n * d)
    variance = covariance = 0.0
    for z in (z1.astype(np.float64), z2.astype(np.float64)):
        mean = [sum(z[:, i]) / n for i in range(d)]
        cov = [
            [sum((z[b, i] - mean[i]) * (z[b, j] - mean[j]) for b in range(n)) / (n - 1) for j in range(d)]
            for i in range(d)
        ]
        variance += sum(max(0.0, 1.0 - math.sqrt(cov[i][i] + EPS)) for i in range(d)) / d / 2
        covariance += sum(cov[i][j] ** 2 for i in range(d) for j in range(d) if i != j) / d
    return invariance, float(variance), float(covariance)


def loss(z1: np.ndarray, z2: np.ndarray, weights: tuple[float, float, float] = (25.0, 25.0, 1.0)) -> float:
    return sum(weight * term for weight, term in zip(weights, terms(z1, z2), strict=True))
