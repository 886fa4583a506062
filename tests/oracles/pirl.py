"""PIRL's loss from its formula, one image and one negative after the other, in float64. Knows nothing of our code."""

from __future__ import annotations

import math

import numpy as np


def unit(v: np.ndarray) -> np.ndarray:
    return v / math.sqrt(float(v @ v))


def scores(v: np.ndarray, positives: np.ndarray, negatives: np.ndarray, tau: float) -> np.ndarray:
    """(N, 1 + K): the positive first."""
    return np.array(
        [[float(unit(row) @ m) / tau for m in (positives[i], *negatives)] for i, row in enumerate(v.astype(np.float64))]
    )


def partition(v: np.ndarray, positives: np.ndarray, negatives: np.ndarray, tau: float, images: int) -> float:
    return images * float(np.exp(scores(v, positives, negatives, tau)).mean())


def nce(v: np.ndarray, positives: np.ndarray, negatives: np.ndarray, tau: float, images: int, z: float) -> float:
    noise, total = len(negatives) / images, 0.0
    for row in np.exp(scores(v, positives, negatives, tau)) / z:
        total -= math.log(row[0] / (row[0] + noise))
        total -= sum(math.log(noise / (p + noise)) for p in row[1:])
    return total / len(v)


def cross_entropy(v: np.ndarray, positives: np.ndarray, negatives: np.ndarray, tau: float) -> float:
    rows = scores(v, positives, negatives, tau)
    return sum(math.log(sum(math.exp(s) for s in row)) - row[0] for row in rows) / len(v)
