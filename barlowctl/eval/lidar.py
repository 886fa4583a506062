"""LiDAR: how many directions tell images apart that their own distortions do not blur. Without labels."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from barlowctl.errors import UserError
from barlowctl.eval.diagnostics import NotFinite


@torch.inference_mode()
def lidar(clusters: Tensor, *, delta: float = 1e-4, epsilon: float = 1e-7) -> float:
    """LiDAR of q distorted views of each of n images `(n, q, D)` (Thilak et al. 2023, arXiv 2312.04000).

    Each image is a class of its own, and its views are the class's samples. With the covariances between and within
    these classes,

        S_b = sum_i (m_i - m)(m_i - m)ᵀ / (n - 1),    S_w = sum_ij (x_ij - m_i)(x_ij - m_i)ᵀ / (n (q - 1)) + delta I,

    it is `exp(-sum_k p_k log p_k)`, `p_k = lambda_k / sum(lambda) + epsilon`, over the D eigenvalues of
    `S_w^(-1/2) S_b S_w^(-1/2)`: RankMe's entropy, of the matrix of a linear discriminant analysis. At most
    min(n - 1, D), except for what `epsilon` adds. Images whose means are all the same have 0.

    The paper names no values for its small constants. `delta` is that of stable-pretraining's callback (other public
    code has 1e-3 to 1e-6), `epsilon` that of RankMe. Since `delta` is absolute, embeddings that distortions move by
    less than 0.01 or so in a direction are measured by how far their means spread there.

    Computed in float64 from the smaller of two equal problems: `S_w` is D x D, or for D > n q, an nq x nq matrix by
    Woodbury's identity.

    Raises:
        UserError: fewer than two images, or than two views of each.
        NotFinite: NaN or infinity among the embeddings.
    """
    if clusters.ndim != 3 or clusters.shape[0] < 2 or clusters.shape[1] < 2 or clusters.shape[2] < 1:
        raise UserError(
            f"LiDAR of views of shape {tuple(clusters.shape)}",
            allowed="(images, views, dimensions) with at least 2 images and 2 views of each",
        )
    if not clusters.isfinite().all():
        raise NotFinite("diagnostics: the embeddings contain NaN or infinity")
    n, q, d = clusters.shape
    x = clusters.detach().cpu().double()
    means = x.mean(dim=1)
    between = (means - means.mean(dim=0)) / math.sqrt(n - 1)  # S_b = betweenᵀ between
    within = (x - means[:, None]).reshape(n * q, d) / math.sqrt(n * (q - 1))  # S_w = withinᵀ within + delta I
    eigenvalues = torch.linalg.eigvalsh(_discriminant(between, within, delta)).clamp_min(0.0)
    total = float(eigenvalues.sum())
    if total == 0.0:
        return 0.0
    p = eigenvalues / total + epsilon
    of_zeros = (d - len(p)) * epsilon * math.log(epsilon)  # of the eigenvalues that the smaller matrix does not have
    return math.exp(-float((p * p.log()).sum()) - of_zeros)


def _discriminant(between: Tensor, within: Tensor, delta: float) -> Tensor:
    """A symmetric matrix that has the eigenvalues of `S_w^(-1/2) S_b S_w^(-1/2)` which are not 0."""
    rows, d = within.shape
    if d <= rows:
        s_w = within.t() @ within
        s_w.diagonal().add_(delta)
        whitened = torch.linalg.solve_triangular(torch.linalg.cholesky(s_w), between.t(), upper=False)  # (D, n)
        return whitened.t() @ whitened if len(between) < d else whitened @ whitened.t()
    gram = within @ within.t()
    gram.diagonal().add_(delta)
    across = torch.linalg.solve_triangular(torch.linalg.cholesky(gram), within @ between.t(), upper=False)
    return (between @ between.t() - across.t() @ across) / delta
