"""The loss of SimSiam (Chen and He 2021, arXiv 2011.10566, eq. 1 to 4): negative cosines with stop-gradient.

    L = - mean_b s(p1_b, z2_b) / 2 - mean_b s(p2_b, z1_b) / 2,  s the cosine, z a constant

p are predictions, z projections of the same network. Between -1 (also where everything collapsed) and 1.
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


class SimSiamTerms(NamedTuple):
    """Scalars: the loss, and the spread of the projections (see `direction_spread`), 0 where they collapse."""

    loss: Tensor
    spread: Tensor


def simsiam_loss(
    p1: Tensor,
    p2: Tensor,
    z1: Tensor,
    z2: Tensor,
    *,
    stop_gradient: bool = True,
    ranks: Ranks = ALONE,
    shares: Sequence[int] | None = None,
) -> SimSiamTerms:
    """Loss of predictions p1, p2 and projections z1, z2, all `(N, D)`; row b of each is from the same image.

    Computed in float32 (float64 for float64 input) also under autocast. Over several ranks each gives its own rows,
    gets the loss of the whole batch, and the gradient of its rows without a factor of the number of ranks (see
    `distributed`).

    Args:
        stop_gradient: no gradient goes into z1 and z2. Without it everything collapses (Figure 2 of the paper).
        shares: how many rows each rank has; None: they ask one another.

    Raises:
        UserError: shapes that differ, no matrices, or integers.
    """
    check_predictions(p1, p2, z1, z2)
    with full_precision(p1):
        if stop_gradient:
            z1, z2 = z1.detach(), z2.detach()
        q1, q2 = unit_rows(z1), unit_rows(z2)
        cosines = (unit_rows(p1) * q2).sum(dim=1) + (unit_rows(p2) * q1).sum(dim=1)
        loss = -0.5 * batch_mean(cosines, ranks, shares)
        return SimSiamTerms(loss, direction_spread(torch.cat([q1, q2]), ranks))
