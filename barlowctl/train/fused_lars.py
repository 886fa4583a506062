"""LARS on a CPU in two passes over memory, where torch's operations take seven (see `lars_kernels`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from barlowctl.kernels import thread_team


def takes(params: Sequence[Tensor], gradients: Sequence[Tensor], momenta: Sequence[Tensor], rate: Any) -> bool:
    """Whether `step` can do it: all are plain float32 values, of which each three lie in memory alike.

    A rate that is a tensor is for steps that nobody waits for.
    """
    plain = not isinstance(rate, Tensor) and not torch.compiler.is_compiling() and thread_team.serves()
    return plain and all(map(_lie_alike, params, gradients, momenta))


def _lie_alike(p: Tensor, gradient: Tensor, mu: Tensor) -> bool:
    types = type(p) in (Tensor, nn.Parameter) and type(gradient) is type(mu) is Tensor
    if not types or not all(t.dtype == torch.float32 and t.device.type == "cpu" for t in (p, gradient, mu)):
        return False
    dense = p.is_contiguous() or (p.ndim == 4 and p.is_contiguous(memory_format=torch.channels_last))
    return dense and p.stride() == gradient.stride() == mu.stride() and p.shape == gradient.shape == mu.shape


def step(
    params: Sequence[Tensor],
    gradients: Sequence[Tensor],
    momenta: Sequence[Tensor],
    group: dict[str, Any],
    epsilon: float,
) -> None:
    """A step of `lars.LARS`, of parameters that `takes` takes, by the settings of their group."""
    from barlowctl.train import lars_kernels as kernels  # numba takes a second, which not every command needs

    rule = kernels.AS_IT_IS
    if group["adapt"]:
        rule = kernels.OF_THE_GRADIENT if group["variant"] == "larc" else kernels.OF_THE_SUM
    triples = zip(params, gradients, momenta, strict=True)
    addresses = [[t.data_ptr() for t in triple] for triple in triples if triple[0].numel()]
    if not addresses:
        return
    kernels.step(
        (*thread_team.team(), kernels.add_squares.address, kernels.move.address),
        np.array(addresses, np.int64),
        np.array([p.numel() for p in params if p.numel()], np.int64),
        rule,
        float(group["eta"]),
        epsilon,
        float(group["weight_decay"]),
        float(group["momentum"]),
        float(group["lr"]),
        float(group["lr"]) if group["clip"] else -1.0,
        group["variant"] == "simclr",
    )
    torch.autograd.graph.increment_version([*params, *momenta])


def prepare() -> None:
    """Compile the kernels."""
    p, gradient, mu = torch.zeros(1), torch.zeros(1), torch.zeros(1)
    settings = {"adapt": True, "variant": "larc", "eta": 0.0, "weight_decay": 0.0, "momentum": 0.0, "lr": 0.0}
    step([p], [gradient], [mu], {**settings, "clip": False}, 0.0)
