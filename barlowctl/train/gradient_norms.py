"""Norms of a step's gradient, one of each parameter: what is logged, what is clipped by, and which one is no number."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from barlowctl.train.sharding import Sharding


@dataclass(frozen=True)
class Norms:
    """Of the parameters that have a gradient, in the order of `parameters`; nothing is read from the device.

    Attributes:
        each: `(parameters,)`. whole: 0-dimensional, the norm of the whole gradient: finite where `each` is.
    """

    parameters: list[Tensor]
    each: Tensor
    whole: Tensor

    def clone(self) -> Norms:
        """These numbers, when a later step writes over them."""
        return Norms(self.parameters, self.each.clone(), self.whole.clone())


class GradientNorms:
    """Measures the gradients of what an optimizer trains; where a backbone is divided, every rank makes the calls.

    Args:
        method: whose parameters' names are told. sharding: how its backbone is divided among ranks; None: it is not.
    """

    def __init__(
        self, method: nn.Module, optimizer: torch.optim.Optimizer | None, sharding: Sharding | None = None
    ) -> None:
        self.optimizer, self.sharding = optimizer, sharding
        self._names = parameter_names(method, sharding)

    def __call__(self) -> Norms:
        """Norms of the gradients that are there now."""
        assert self.optimizer is not None
        trained = [p for group in self.optimizer.param_groups for p in group["params"]]
        parameters = [p for p in trained if p.grad is not None]
        gradients = [p.grad for p in parameters]
        if not gradients:
            return Norms([], trained[0].new_zeros(0), trained[0].new_zeros(()))
        each = torch.stack(torch._foreach_norm(gradients))
        if self.sharding is not None:
            each = self.sharding.norms_of_all(parameters, each)
        return Norms(parameters, each, each.norm())

    def not_finite(self, norms: Norms) -> str:
        """In words, whose norm is not a finite number; reads them. Without any, whose is the largest."""
        named = dict(zip(map(self._names.__getitem__, norms.parameters), norms.each.tolist(), strict=True))
        names = [name for name, value in named.items() if not math.isfinite(value)]
        names = names or [max(named, key=named.__getitem__)]
        others = f" (and of {len(names) - 1} others)" if len(names) > 1 else ""
        return f"the norm of the gradient of {names[0]}{others} is {named[names[0]]:.4g}"


def parameter_names(method: nn.Module, sharding: Sharding | None = None) -> dict[Tensor, str]:
    """Names of a method's parameters, or of their rows on this rank where they are divided: what an optimizer has."""
    return {p if sharding is None else sharding.rows_of(p): name for name, p in method.named_parameters()}
