"""The compared methods on a small network, as the ranks of a gang train them: each is made for any number of ranks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from barlowctl.distributed import Ranks
from barlowctl.methods import Method, MoCo, SimCLR
from barlowctl.model import build_mlp, split_batch_norm, synchronize_batch_norm
from tests.dist.work import Run, train_method

ROWS = 24
GROUPS = 4
"""Parts that MoCo's batch norm sees, over all ranks."""
TRAINED = Run(rows=ROWS, optimizer="sgd", lr=0.4, lr_biases=0.1)
"""SGD, to which the scale of a gradient matters. LARS would hide it."""


def backbone(*, norm: bool) -> nn.Sequential:
    """Images `(n, 1, 6, 6)` -> features `(n, 20)`."""
    torch.manual_seed(3)
    return nn.Sequential(
        nn.Conv2d(1, 5, 3, bias=not norm),  # ahead of a batch norm a bias has no gradient but rounding
        nn.BatchNorm2d(5) if norm else nn.Identity(),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(80, 20),
        nn.Tanh(),
    )


def simclr(ranks: Ranks, *, norm: bool = True) -> Method:
    network = backbone(norm=norm)
    head = build_mlp(20, (16, 8), batch_norm=norm, hidden_bias=False, last_bias=False, last_norm="scale")
    method = SimCLR(network, head if norm else head[:-1], temperature=0.2, ranks=ranks).double()
    return _over(ranks, method)


def moco(ranks: Ranks, *, norm: bool = True, symmetric: bool = False) -> Method:
    network = backbone(norm=norm)
    head = build_mlp(20, (16, 8), batch_norm=False, hidden_bias=True, last_bias=True)
    split_batch_norm(network, GROUPS // ranks.size)
    return MoCo(
        network,
        head,
        width=8,
        batch=ROWS,
        queue=4 * ROWS,
        momentum=0.9,
        temperature=0.2,
        symmetric=symmetric,
        shuffles=True,
        ranks=ranks,
    ).double()


def moco_symmetric(ranks: Ranks, *, norm: bool = True) -> Method:
    return moco(ranks, norm=norm, symmetric=True)


def _over(ranks: Ranks, method: Method) -> Method:
    if ranks.size > 1:
        synchronize_batch_norm(method, ranks, torch.device("cpu"))
    return method


MAKERS: Mapping[str, Callable[..., Method]] = {
    "simclr": simclr,
    "moco": moco,
    "moco, symmetric": moco_symmetric,
}


def train_each(ranks: Ranks, run: Run, folder: str) -> dict[str, dict[str, Any]]:
    """Every method, trained: see `train_method`."""
    return {
        name: train_method(ranks, make(ranks, norm=run.norm), run, str(Path(folder) / name))
        for name, make in MAKERS.items()
    }
