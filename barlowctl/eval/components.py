"""Principal components of features, and the colours that the first three make of them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from barlowctl.errors import UserError


@dataclass(frozen=True)
class Components:
    """mean: `(F,)`. directions: `(count, F)`, unit vectors. shares: `(count,)`, of the variance; all float64."""

    mean: Tensor
    directions: Tensor
    shares: Tensor

    def scores(self, rows: Tensor) -> Tensor:
        """Where rows `(n, F)` lie along the directions: `(n, count)` float64."""
        return (rows.double() - self.mean) @ self.directions.T


def principal_components(rows: Tensor, count: int = 3) -> Components:
    """The first principal components of rows `(n, F)`: eigenvectors of their covariance, the largest first.

    Their sign: the entry of the largest absolute value is positive (the first one of equals), which depends neither on
    the order of the rows nor on who solves. Directions without variance, where there are fewer rows or dimensions than
    components, are zero.

    Raises:
        UserError: rows that are not finite.
    """
    if not bool(torch.isfinite(rows).all()):
        raise UserError("the features are not finite: the weights are damaged, or their training diverged")
    rows = rows.double()
    mean = rows.mean(dim=0)
    centred = rows - mean
    n, width = centred.shape
    # The smaller of both products has the same eigenvalues; of the larger one most are zero.
    product = centred.T @ centred if width <= n else centred @ centred.T
    values, vectors = torch.linalg.eigh(product)
    values, vectors = values.flip(0)[:count].clamp(min=0.0), vectors.flip(1)[:, :count]
    directions = vectors.T if width <= n else (centred.T @ vectors).T
    norms = directions.norm(dim=1, keepdim=True)
    total = float(centred.square().sum())
    negligible = values <= total * 1e-12
    directions = torch.where(negligible[:, None] | (norms == 0), 0.0, directions / norms.clamp(min=1e-300))
    peaks = directions.gather(1, directions.abs().argmax(dim=1, keepdim=True))
    directions = directions * torch.where(peaks < 0, -1.0, 1.0)
    missing = count - len(directions)
    return Components(
        mean,
        torch.nn.functional.pad(directions, (0, 0, 0, missing)),
        torch.nn.functional.pad(values / total if total else torch.zeros_like(values), (0, missing)),
    )


def colours(scores: Tensor, *, cut: float = 0.01) -> Tensor:
    """Scores `(n, 3)` as colours `(n, 3)` uint8: red, green and blue are the components.

    Each is stretched so that all but a share `cut` at either end lies between dark and bright; one without variance is
    grey.
    """
    low, high = (torch.quantile(scores, share, dim=0) for share in (cut, 1.0 - cut))
    spread = high - low
    stretched = ((scores - low) / torch.where(spread > 0, spread, 1.0)).clamp(0.0, 1.0)
    return (255 * torch.where(spread > 0, stretched, 0.5)).round().to(torch.uint8)
