"""PreciseBN: a detector's batch norm statistics, taken over many batches of training before it is tested.

Batches are small and statistics move quickly, so the running ones lag behind the weights (arXiv 2105.07576, section 3).
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from barlowctl.detect.batch import DetectionBatch
from barlowctl.detect.method import Detection
from barlowctl.detect.rpn import at_least_float32
from barlowctl.distributed import ALONE, Ranks
from barlowctl.errors import UserError
from barlowctl.model.batch_norm import GlobalBatchNorm
from barlowctl.modes import in_mode

BATCHES = 200
"""Of detectron2's PreciseBN."""


class _Population:
    """Count, mean and squared deviations of each channel of all that came into a batch norm, in float64."""

    def __init__(self, channels: int, device: torch.device) -> None:
        self.count = torch.zeros((), dtype=torch.float64, device=device)
        self.sum, self.squares = torch.zeros(2, channels, dtype=torch.float64, device=device)

    def add(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        """A forward pre-hook."""
        (x,) = inputs
        rows = x.numel() // x.shape[1]
        if rows == 0:
            return
        dims = [dim for dim in range(x.ndim) if dim != 1]
        variance, mean = torch.var_mean(at_least_float32(x), dim=dims, correction=0)
        self.count += rows
        self.sum += rows * mean.double()
        self.squares += rows * (variance.double() + mean.double().square())

    def write(self, norm: Any, ranks: Ranks) -> None:
        """The statistics of all ranks into a norm's running ones, which stay where nothing came in."""
        totals = ranks.add(torch.cat([self.count[None], self.sum, self.squares]))
        mean, squares = (totals[1:] / totals[0].clamp_min(1.0)).chunk(2)
        variance = (squares - mean.square()).clamp_min(0.0)
        for running, of_all in ((norm.running_mean, mean), (norm.running_var, variance)):
            running.copy_(torch.where(totals[0] > 0, of_all, running))


def batch_norms(network: nn.Module) -> list[Any]:
    """The batch norms that have running statistics."""
    kinds = _BatchNorm | GlobalBatchNorm
    return [module for module in network.modules() if isinstance(module, kinds) and module.running_mean is not None]


@torch.no_grad()
def recompute(detection: Detection, batches: Iterable[DetectionBatch], ranks: Ranks = ALONE) -> int:
    """Let the running statistics of every batch norm be those of all batches together; returns how many there were.

    The batches go through in training mode, with their targets: RoIs are sampled as in training, and the fourth stage
    sees foreground and background as it does there. Where only the backbone and its pyramid have batch norms, the
    batches go through these alone. Each rank has as many batches as the others; the statistics are the same on each
    afterwards. Weights and modes stay. Mean and variance are those of all positions of all batches (fvcore's estimate
    of the population), not the mean of the batches' variances.

    Raises:
        UserError: no batch.
    """
    norms, count = batch_norms(detection), 0
    through = detection if batch_norms(detection.rpn) or batch_norms(detection.heads) else detection.maps
    with in_mode(detection, training=True), _populations(norms) as populations:
        for batch in batches:
            through(batch)
            count += 1
    if count == 0:
        raise UserError("PreciseBN has no batch to take statistics of", allowed="at least 1")
    for norm, population in zip(norms, populations, strict=True):
        population.write(norm, ranks)
    return count


@contextmanager
def _populations(norms: list[Any]) -> Any:
    """What comes into each norm meanwhile; their count of batches is put back."""
    counts = [None if norm.num_batches_tracked is None else norm.num_batches_tracked.clone() for norm in norms]
    populations = [_Population(len(norm.running_mean), norm.running_mean.device) for norm in norms]
    with ExitStack() as hooks:
        for norm, population in zip(norms, populations, strict=True):
            hooks.callback(norm.register_forward_pre_hook(population.add).remove)
        yield populations
    for norm, before in zip(norms, counts, strict=True):
        if before is not None:
            norm.num_batches_tracked.copy_(before)
