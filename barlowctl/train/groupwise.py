"""What our own optimizers share: a step is an update of every group that has gradients."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, overload

import torch
from torch import Tensor

from barlowctl.errors import UserError

NUMBERS = ("lr", "weight_decay", "momentum", "eta")
"""Settings that are numbers of 0 or more."""


class GroupwiseOptimizer(torch.optim.Optimizer, ABC):
    """`step` with torch's closure convention around `update(group)`, which a subclass defines.

    Attributes:
        found_inf: as torch's fused optimizers have it: a 0-dimensional float tensor on the parameters' device, set for
            the time of a step. Where it is 1 the step changes nothing; nobody waits to know. None: every step counts.
    """

    found_inf: Tensor | None = None

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """torch's.

        Raises:
            UserError: see `refuse_impossible`.
        """
        refuse_impossible(type(self).__name__, {**self.defaults, **param_group})
        super().add_param_group(param_group)

    @abstractmethod
    def update(self, group: dict[str, Any]) -> None:
        """One update, in place and without gradients, of the parameters of a group that have a gradient.

        `group["lr"]` is a number, or a 0-dimensional tensor on their device.
        """

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """One update of every parameter that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            self.update(group)
        return loss


def refuse_impossible(optimizer: str, settings: Mapping[str, Any]) -> None:
    """Refuse rates and the like that no step can be taken with, of all parameters or of a group of them.

    Raises:
        UserError: names the first one that is negative, infinite or NaN, and of betas what is not below 1 either.
    """
    for name in NUMBERS:
        if name in settings and not 0.0 <= settings[name] < math.inf:
            raise UserError(f"{optimizer}: {name} is {settings[name]}", allowed="a number of 0 or more")
    for beta in settings.get("betas", ()):
        if not 0.0 <= beta < 1.0:
            raise UserError(f"{optimizer}: a beta is {beta}", allowed="0 or more, below 1")
