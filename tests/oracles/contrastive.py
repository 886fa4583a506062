"""NT-Xent and InfoNCE from their formulas, in float64 Python loops, one sample after the other.

Both give loss, mean cosine of positives, the share of rows nearer to theirs than to all others, and the spread.
"""

from __future__ import annotations

import math

import numpy as np


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / (np.sqrt(a @ a) * np.sqrt(b @ b)))


def spread(z: np.ndarray) -> float:
    """sqrt(D) times the mean standard deviation of a dimension, over rows of length 1: 1 evenly spread, 0 collapsed."""
    unit = np.stack([row / np.sqrt(row @ row) for row in z.astype(np.float64)])
    return float(np.mean([np.std(unit[:, d]) for d in range(z.shape[1])]) * np.sqrt(z.shape[1]))


def nt_xent(z1: np.ndarray, z2: np.ndarray, temperature: float) -> tuple[float, float, float, float]:
    n = len(z1)
    rows = [*z1.astype(np.float64), *z2.astype(np.float64)]
    loss, similarity, nearest = 0.0, 0.0, 0
    for i in range(2 * n):
        positive = i + n if i < n else i - n
        others = {j: cosine(rows[i], rows[j]) for j in range(2 * n) if j != i}
        loss += math.log(sum(math.exp(s / temperature) for s in others.values())) - others[positive] / temperature
        similarity += others[positive]
        nearest += all(others[positive] > s for j, s in others.items() if j != positive)
    return loss / (2 * n), similarity / (2 * n), nearest / (2 * n), spread(z1)


def info_nce(q: np.ndarray, k: np.ndarray, queue: np.ndarray, temperature: float) -> tuple[float, float, float, float]:
    n = len(q)
    q, k, queue = (rows.astype(np.float64) for rows in (q, k, queue))
    loss, similarity, nearest = 0.0, 0.0, 0
    for i in range(n):
        positive = cosine(q[i], k[i])
        negatives = [cosine(q[i], row) for row in queue]
        denominator = math.exp(positive / temperature) + sum(math.exp(s / temperature) for s in negatives)
        loss -= math.log(math.exp(positive / temperature) / denominator)
        similarity += positive
        nearest += all(positive > s for s in negatives)
    return loss / n, similarity / n, nearest / n, spread(q)
