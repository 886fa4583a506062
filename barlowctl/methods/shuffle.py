"""Shuffled batch norm (MoCo, arXiv 1911.05722, section 3.3): a key's batch statistics are not those of its query.

Batch norm lets a row know of those beside it, by which a query could tell its key. Rows of another order give other
parts of the batch to each rank, and to each group of `model.split_batch_norm`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from barlowctl.distributed import Ranks


@torch.no_grad()
def shuffled(network: nn.Module, images: Tensor, ranks: Ranks) -> Tensor:
    """What `network` makes of this rank's images `(n, ...)`, computed in an order of the rows of all ranks; a constant.

    The order is rank 0's, from torch's generator of the images' device. Every rank has equally many rows.

    Returns:
        `(n, ...)`, row i of image i.
    """
    n, shares = len(images), [len(images)] * ranks.size
    own = slice(ranks.rank * n, (ranks.rank + 1) * n)
    order = torch.rand(n * ranks.size, device=images.device).argsort()
    ranks.copy_from_first([order])
    there = torch.empty_like(images).copy_(ranks.gather(images, shares)[order[own]])  # its layout in memory stays
    back: Tensor = ranks.gather(network(there), shares)[order.argsort()[own]]
    return back
