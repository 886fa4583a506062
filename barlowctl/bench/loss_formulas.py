"""The published formulations of the compared losses in plain torch: the row that the others are compared with.

Each is the formula as its paper prints it, or its authors' code computes it, with no thought for memory: the whole
table of similarities, C, or covariances stands there at once.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

LAMBD = 0.0051
SIMCLR_TEMPERATURE = 0.1
SWAV_TEMPERATURE, EPSILON, ITERATIONS = 0.1, 0.05, 3


def off_diagonal_squares(c: Tensor) -> Tensor:
    """The sum of the squares off the diagonal of a square matrix."""
    d = len(c)
    return c.flatten()[:-1].view(d - 1, d + 1)[:, 1:].flatten().pow(2).sum()


def barlow_twins(z1: Tensor, z2: Tensor) -> Tensor:
    """Batch norm, C, the squares on its diagonal and off it."""
    norm = torch.nn.BatchNorm1d(z1.shape[1], affine=False, device=z1.device)
    c = norm(z1).T @ norm(z2) / len(z1)
    on_diagonal = torch.diagonal(c).add(-1).pow(2).sum()
    return on_diagonal + LAMBD * off_diagonal_squares(c)


def vicreg(z1: Tensor, z2: Tensor) -> Tensor:
    """25 times the distance, 25 times half of the hinges, the covariances (`main_vicreg.py`)."""
    n, d = z1.shape
    hinges, covariances = z1.new_zeros(()), z1.new_zeros(())
    for z in (z1, z2):
        centered = z - z.mean(dim=0)
        hinges = hinges + torch.relu(1 - torch.sqrt(centered.var(dim=0) + 1e-4)).mean() / 2
        covariances = covariances + off_diagonal_squares(centered.T @ centered / (n - 1)) / d
    return 25 * functional.mse_loss(z1, z2) + 25 * hinges + covariances


def nt_xent(z1: Tensor, z2: Tensor) -> Tensor:
    """Cross-entropy over the table of 2 N x 2 N cosines without its diagonal (SimCLR, section 2.1)."""
    n = len(z1)
    z = functional.normalize(torch.cat([z1, z2]), dim=1)
    logits = (z @ z.T / SIMCLR_TEMPERATURE).fill_diagonal_(-torch.inf)
    return functional.cross_entropy(logits, torch.arange(2 * n, device=z.device).roll(n))


def info_nce(q: Tensor, k: Tensor, queue: Tensor, temperature: float) -> Tensor:
    """Cross-entropy of a query's key against it and the queue (MoCo, algorithm 1)."""
    q, k = functional.normalize(q, dim=1), functional.normalize(k, dim=1)
    logits = torch.cat([(q * k).sum(dim=1, keepdim=True), q @ queue.T], dim=1) / temperature
    return functional.cross_entropy(logits, torch.zeros(len(q), dtype=torch.int64, device=q.device))


def byol(p1: Tensor, p2: Tensor, z1: Tensor, z2: Tensor) -> Tensor:
    """Squared distances of directions, of both orders of the views (BYOL, equation 2)."""
    p1, p2, z1, z2 = (functional.normalize(rows, dim=1) for rows in (p1, p2, z1, z2))
    return ((p1 - z2).pow(2).sum(dim=1) + (p2 - z1).pow(2).sum(dim=1)).mean()


def simsiam(p1: Tensor, p2: Tensor, z1: Tensor, z2: Tensor) -> Tensor:
    """Half of each negative cosine (SimSiam, equation 2)."""
    return -(functional.cosine_similarity(p1, z2) + functional.cosine_similarity(p2, z1)).mean() / 2


def swav(scores1: Tensor, scores2: Tensor) -> Tensor:
    """Each view's predictions against the other one's codes (SwAV, equation 2)."""
    loss = scores1.new_zeros(())
    for codes, predicted in ((_sinkhorn(scores1), scores2), (_sinkhorn(scores2), scores1)):
        loss = loss - (codes * functional.log_softmax(predicted / SWAV_TEMPERATURE, dim=1)).sum(dim=1).mean() / 2
    return loss


@torch.no_grad()
def _sinkhorn(scores: Tensor) -> Tensor:
    """Rows of prototypes and columns of samples are scaled in turns (SwAV, appendix A)."""
    q = torch.exp(scores / EPSILON).T
    q /= q.sum()
    for _ in range(ITERATIONS):
        q /= q.sum(dim=1, keepdim=True) * len(q)
        q /= q.sum(dim=0, keepdim=True) * q.shape[1]
    return (q * q.shape[1]).T
