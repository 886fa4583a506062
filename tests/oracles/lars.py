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
    exclude: bool = True,
) -> list[np.ndarray]:
    """The parameter after each step. With `exclude` biases and norm parameters (`ndim <= 1`) have neither decay nor
    adaptation."""
    p, mu = start.astype(np.float64), np.zeros(start.shape)
    excluded = exclude and start.ndim <= 1
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


def simclr_trajectory(
    start: np.ndarray, gradients: list[np.ndarray], *, lr: list[float], weight_decay: float, momentum: float, eta: float
) -> list[np.ndarray]:
    """`LARSOptimizer` of google-research/simclr with classic momentum, a layer that it adapts."""
    p, v, path = start.astype(np.float64), np.zeros(start.shape), []
    for gradient, rate in zip(gradients, lr, strict=True):
        g = gradient + weight_decay * p
        w_norm, g_norm = np.linalg.norm(p.ravel()), np.linalg.norm(g.ravel())
        trust = eta * w_norm / g_norm if w_norm > 0 and g_norm > 0 else 1.0
        v = momentum * v + rate * trust * g
        p = p - v
        path.append(p)
    return path


def larc_trajectory(
    start: np.ndarray,
    gradients: list[np.ndarray],
    *,
    lr: list[float],
    weight_decay: float,
    momentum: float,
    eta: float,
    clip: bool = False,
) -> list[np.ndarray]:
    """apex's LARC around torch's SGD: the gradient is changed where both norms are positive, then momentum."""
    p, v, path = start.astype(np.float64), np.zeros(start.shape), []
    for gradient, rate in zip(gradients, lr, strict=True):
        g = gradient.astype(np.float64)
        w_norm, g_norm = np.linalg.norm(p.ravel()), np.linalg.norm(g.ravel())
        if w_norm != 0 and g_norm != 0:
            local = eta * w_norm / (g_norm + w_norm * weight_decay + 1e-8)
            if clip:
                local = min(local / rate, 1.0) if rate > 0 else 1.0
            g = (g + weight_decay * p) * local
        v = momentum * v + g
        p = p - rate * v
        path.append(p)
    return path
