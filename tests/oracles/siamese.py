"""BYOL, SimSiam and SwAV from their formulas, in float64, by loops. Knows nothing of our code."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(sum(x * y for x, y in zip(a, b, strict=True)) / math.sqrt(sum(a * a)) / math.sqrt(sum(b * b)))


def byol(p1: np.ndarray, p2: np.ndarray, z1: np.ndarray, z2: np.ndarray) -> float:
    """Squared distances of directions (BYOL, eq. 2), of both orders of the views, averaged over samples."""
    total = 0.0
    for p, z in ((p1, z2), (p2, z1)):
        for row, target in zip(p, z, strict=True):
            difference = row / math.sqrt(sum(row * row)) - target / math.sqrt(sum(target * target))
            total += float(sum(difference * difference))
    return total / len(p1)


def simsiam(p1: np.ndarray, p2: np.ndarray, z1: np.ndarray, z2: np.ndarray) -> float:
    """Half of each negative cosine (SimSiam, eq. 2), averaged over samples."""
    total = 0.0
    for p, z in ((p1, z2), (p2, z1)):
        total += sum(-cosine(row, target) / 2 for row, target in zip(p, z, strict=True))
    return total / len(p1)


def spread(*batches: np.ndarray) -> float:
    """sqrt(D) times the mean deviation of the components of all rows, each row of length 1."""
    rows = [row / math.sqrt(sum(row * row)) for batch in batches for row in batch]
    deviations = [np.std([row[d] for row in rows]) for d in range(len(rows[0]))]
    return math.sqrt(len(rows[0])) * float(np.mean(deviations))


def sinkhorn(scores: np.ndarray, epsilon: float = 0.05, iterations: int = 3) -> np.ndarray:
    """`distributed_sinkhorn` of SwAV's code as it is written: Q is (K, B); codes come back as (B, K)."""
    samples, prototypes = scores.shape
    q = np.array([[math.exp(scores[b, k] / epsilon) for b in range(samples)] for k in range(prototypes)])
    q = q / q.sum()
    for _ in range(iterations):
        for k in range(prototypes):
            q[k] = q[k] / q[k].sum() / prototypes
        for b in range(samples):
            q[:, b] = q[:, b] / q[:, b].sum() / samples
    return (q * samples).T


def swav(
    scores: Sequence[np.ndarray],
    *,
    temperature: float = 0.1,
    epsilon: float = 0.05,
    iterations: int = 3,
    queued: Sequence[np.ndarray] = (),
    codes: Sequence[np.ndarray] | None = None,
) -> float:
    """The loops of SwAV's `main_swav.py`: for each anchor, the mean cross-entropy with each other view.

    `queued`: scores of earlier samples for each anchor. `codes`: constants instead of those of these scores.
    """
    total = 0.0
    for anchor in range(2):
        before = queued[anchor] if len(queued) else np.zeros((0, scores[0].shape[1]))
        q = sinkhorn(np.concatenate([before, scores[anchor]]), epsilon, iterations)[len(before) :]
        q = q if codes is None else codes[anchor]
        others = [view for view in range(len(scores)) if view != anchor]
        for view in others:
            for b, row in enumerate(scores[view] / temperature):
                log_sum = math.log(sum(math.exp(x) for x in row))
                entropy = -sum(q[b, k] * (row[k] - log_sum) for k in range(len(row)))
                total += entropy / len(q) / len(others) / 2
    return total


def code_entropy(scores: Sequence[np.ndarray], **options: float) -> float:
    """Mean entropy of the codes of both anchors."""
    entropies = []
    for anchor in range(2):
        for code in sinkhorn(scores[anchor], **options):  # type: ignore[arg-type]
            entropies.append(-sum(q * math.log(q) for q in code if q > 0))
    return float(np.mean(entropies))
