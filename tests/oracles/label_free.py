"""RankMe, LiDAR and alpha in float64 NumPy, from the formulas of their papers and by no shortcut."""

from __future__ import annotations

import numpy as np


def rankme(z: np.ndarray, epsilon: float = 1e-7) -> float:
    """Garrido et al. 2023, eq. 1 and 2: of the embeddings `(N, K)` as they are."""
    sigma = np.linalg.svd(np.asarray(z, np.float64), compute_uv=False)
    p = sigma / np.abs(sigma).sum() + epsilon
    return float(np.exp(-(p * np.log(p)).sum()))


def lidar(x: np.ndarray, delta: float = 1e-4, epsilon: float = 1e-7) -> float:
    """Thilak et al. 2023, section 4: `(n, q, D)`. Inverse square root by eigenvectors, sums as loops over classes."""
    x = np.asarray(x, np.float64)
    n, q, d = x.shape
    mean = x.reshape(-1, d).mean(0)
    between, within = np.zeros((d, d)), np.zeros((d, d))
    for views in x:
        of_class = views.mean(0)
        between += np.outer(of_class - mean, of_class - mean) / (n - 1)
        for view in views:
            within += np.outer(view - of_class, view - of_class) / (n * (q - 1))
    values, vectors = np.linalg.eigh(within + delta * np.eye(d))
    inverse_root = vectors @ np.diag(values**-0.5) @ vectors.T
    eigenvalues = np.clip(np.linalg.eigvalsh(inverse_root @ between @ inverse_root), 0.0, None)
    p = eigenvalues / eigenvalues.sum() + epsilon
    return float(np.exp(-(p * np.log(p)).sum()))


def alpha(features: np.ndarray) -> float:
    """Agrawal et al. 2022: lambda_k ~ k^-alpha, eigenvalues of the covariance, least squares in log-log over all."""
    covariance = np.cov(np.asarray(features, np.float64).T)
    eigenvalues = np.sort(np.linalg.eigvalsh(np.atleast_2d(covariance)))[::-1]
    eigenvalues = eigenvalues[eigenvalues > 1e-10 * eigenvalues[0]]
    slope, _ = np.polyfit(np.log(np.arange(1, len(eigenvalues) + 1)), np.log(eigenvalues), 1)
    return float(-slope)
