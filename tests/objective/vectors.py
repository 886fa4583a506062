"""Random embeddings with lengths that differ, for losses of directions."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def pair_of_pairs(n: int, d: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Predictions and projections of two views, related to each other."""
    random = np.random.default_rng(seed)
    z1 = random.normal(size=(n, d)) + 0.3
    z2 = 0.7 * z1 + random.normal(size=(n, d))
    p1, p2 = z2 + random.normal(size=(n, d)), 3 * z1 - random.normal(size=(n, d))
    return p1, p2, z1, z2


def scores_of(n: int, k: int, views: int, seed: int = 0) -> list[np.ndarray]:
    """Cosines of embeddings of some views with prototypes."""
    random = np.random.default_rng(seed)
    prototypes = random.normal(size=(k, 6))
    prototypes /= np.linalg.norm(prototypes, axis=1, keepdims=True)
    image = random.normal(size=(n, 6))
    embedded = [image + 0.5 * random.normal(size=(n, 6)) for _ in range(views)]
    return [z / np.linalg.norm(z, axis=1, keepdims=True) @ prototypes.T for z in embedded]


def tensors(*arrays: np.ndarray, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """Leaves that take a gradient."""
    return [torch.tensor(array, dtype=dtype, requires_grad=True) for array in arrays]
