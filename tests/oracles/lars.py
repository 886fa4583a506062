"""LARS from its formula, in float64 numpy: one parameter, one step at a time."""

from __future__ import annotations

import numpy as np


def trajectory(
    start: np.ndarray,
    gradients: list[np.ndarray],
    *,
    lr: list[float],
    weight_decay: float,
    momentum: float,
    eta: float,
    clip: bool = False,
) -> list[np.ndarray]:
    """The parameter after each step. Biases and norm parameters (`ndim <= 1`): no decay, no adaptation."""
    p, mu = start.astype(np.float64), np.zeros(start.shape)
    excluded = start.ndim <= 1
    path = []
    for gradient, rate in zip(gradients, lr, strict=True):
        dp = gradient.astype(np.float64)
        if not excluded:
            dp = dp + weight_decay * p
            p_norm, dp_norm = np.sqrt((p**2).sum()), np.sqrt((dp**2).sum())
            if p_norm > 0 and dp_norm > 0:
                factor = eta * p_norm / dp_norm
                if clip:  # LARC: the step is min(factor, lr) dp
                    factor = min(factor / rate, 1.0) if rate > 0 else 1.0
                dp = dp * factor
        mu = momentum * mu + dp
        p = p - rate * mu
        path.append(p)
    return path
