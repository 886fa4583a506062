"""The loss of BYOL (Grill et al. 2020, arXiv 2006.07733, eq. 2): a prediction of one view against the other's target.

    L = mean_b |p1_b - z2'_b|² + mean_b |p2_b - z1'_b|²,  all of length 1
      = 4 - 2 mean_b s(p1_b, z2'_b) - 2 mean_b s(p2_b, z1'_b),  s the cosine

p are predictions of the online network, z' projections of the target network, which are constants. The sum of both
directions, as in the authors' code; other libraries take half the sum of both mean cosines, negated: a fourth of its
gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from barlowctl.distributed import ALONE, Ranks
from barlowctl.objective.batch_mean import batch_mean
from barlowctl.objective.batch_statistics import full_precision
from barlowctl.objective.predictions import check_predictions
from barlowctl.objective.similarity import unit_rows
from barlowctl.objective.spread import direction_spread


class ByolTerms(NamedTuple):
    """Scalars: the loss, and the spread of the target's projections (see `direction_spread`), 0 where they collapse."""

    loss: Tensor
    spread: Tensor


def byol_loss(
    p1: Tensor, p2: Tensor, z1: Tensor, z2: Tensor, *, ranks: Ranks = ALONE, shares: Sequence[int] | None = None
) -> ByolTerms:
    """Loss of predictions p1, p2 and target projections z1, z2, all `(N, D)`; row b of each is from the same image.

    Computed in float32 (float64 for float64 input) also under autocast. No gradient goes into z1 and z2. Over several
    ranks each gives its own rows, gets the loss of the whole batch, and the gradient of its rows without a factor of
    the number of ranks (see `distributed`). `shares`: how many rows each rank has; None: they ask one another.

    Raises:
        UserError: shapes that differ, no matrices, or integers.
    """
    check_predictions(p1, p2, z1, z2)
    with full_precision(p1):
        q1, q2 = unit_rows(z1.detach()), unit_rows(z2.detach())
        cosines = (unit_rows(p1) * q2).sum(dim=1) + (unit_rows(p2) * q1).sum(dim=1)
        loss = 4.0 - 2.0 * batch_mean(cosines, ranks, shares)
        return ByolTerms(loss, direction_spread(torch.cat([q1, q2]), ranks))
