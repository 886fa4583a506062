"""Softmax regression in float64 numpy: objective, gradient and SGD with momentum, for one head."""

from __future__ import annotations

import math

import numpy as np


def objective(w: np.ndarray, b: np.ndarray, x: np.ndarray, y: np.ndarray, weight_decay: float) -> float:
    """Mean cross-entropy and half the squared weights times the weight decay."""
    total = 0.0
    for row, label in zip(x @ w + b, y, strict=True):
        total += math.log(sum(math.exp(v - row.max()) for v in row)) + row.max() - row[label]
    return total / len(x) + 0.5 * weight_decay * float((w**2).sum())


def gradient(
    w: np.ndarray, b: np.ndarray, x: np.ndarray, y: np.ndarray, weight_decay: float
) -> tuple[np.ndarray, np.ndarray]:
    logits = x @ w + b
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    residual = (p - np.eye(w.shape[1])[y]) / len(x)
    return x.T @ residual + weight_decay * w, residual.sum(axis=0)


def sgd(
    features: np.ndarray,
    y: np.ndarray,
    batches: list[np.ndarray],
    *,
    num_classes: int,
    lr: float,
    weight_decay: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Weights and bias after the given batches (indices), on features standardised by their own statistics."""
    x = features.astype(np.float64)
    std = x.std(axis=0)
    x = np.where(std > 0, (x - x.mean(axis=0)) / np.where(std > 0, std, 1), 0)
    w, b = np.zeros((x.shape[1], num_classes)), np.zeros(num_classes)
    w_momentum, b_momentum = np.zeros_like(w), np.zeros_like(b)
    for step, batch in enumerate(batches):
        w_gradient, b_gradient = gradient(w, b, x[batch], y[batch], weight_decay)
        rate = lr * 0.5 * (1 + math.cos(math.pi * step / len(batches)))
        w_momentum = 0.9 * w_momentum + w_gradient
        b_momentum = 0.9 * b_momentum + b_gradient
        w, b = w - rate * w_momentum, b - rate * b_momentum
    return w, b
