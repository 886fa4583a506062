"""How the directions of embeddings are spread, and so whether they collapse."""

from __future__ import annotations

import torch
from torch import Tensor

from barlowctl.distributed import ALONE, Ranks
from barlowctl.objective.batch_statistics import wide_dtype


@torch.no_grad()
def direction_spread(unit: Tensor, ranks: Ranks = ALONE) -> Tensor:
    """`sqrt(D)` times the mean over dimensions of the standard deviation of rows of length 1 `(n, D)`, of all ranks.

    About 1: directions are spread evenly; 0: all rows are the same, the collapse of SimSiam's Figure 2 (Chen and He
    2021, arXiv 2011.10566), which shows the same number without the factor. No gradient.
    """
    # Deviations from the rank's own mean: squares that lie close together lose nothing in the rows' own precision, and
    # what ranks add up is D numbers, which are wide.
    rows, mean = unit.detach(), unit.detach().mean(dim=0)
    squares = (rows - mean).square_().sum(dim=0).to(wide_dtype(unit))
    mean = mean.to(wide_dtype(unit))
    count = mean.new_full((1,), float(len(rows)))
    sums = ranks.add(torch.cat([count, count * mean, squares + count * mean.square()]))
    mean, squares = (sums[1:] / sums[0]).chunk(2)
    deviations = (squares - mean.square()).clamp_min(0.0).sqrt()
    return (deviations.mean() * unit.shape[1] ** 0.5).to(unit.dtype)
