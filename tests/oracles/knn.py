"""Weighted kNN and top-k accuracy with plain loops in float64."""

from __future__ import annotations

import math

import numpy as np


def vote_shares(
    bank: np.ndarray,
    bank_labels: np.ndarray,
    queries: np.ndarray,
    *,
    k: int,
    temperature: float,
    num_classes: int,
) -> np.ndarray:
    out = np.zeros((len(queries), num_classes))
    for row, query in enumerate(queries.astype(np.float64)):
        similarity = [
            float(query @ other / (math.sqrt(query @ query) * math.sqrt(other @ other)))
            for other in bank.astype(np.float64)
        ]
        nearest = sorted(range(len(bank)), key=lambda i: -similarity[i])[:k]
        for i in nearest:
            out[row, bank_labels[i]] += math.exp(similarity[i] / temperature)
        out[row] /= out[row].sum()
    return out


def top_accuracy(scores: np.ndarray, labels: np.ndarray, top: int) -> float:
    hits = 0
    for row, label in zip(scores, labels, strict=True):
        ranking = sorted(range(len(row)), key=lambda c: (-row[c], c))
        hits += int(label in ranking[:top])
    return hits / len(labels)
