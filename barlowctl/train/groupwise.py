"""What our own optimizers share: a step is an update of every group that has gradients."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, overload

import torch
from torch import Tensor

from barlowctl.errors import UserError


class GroupwiseOptimizer(torch.optim.Optimizer, ABC):
    """`step` with torch's closure convention around `update(group)`, which a subclass defines.

    Attributes:
        found_inf: as torch's fused optimizers have it: a 0-dimensional float tensor on the parameters' device, set for
            the time of a step. Where it is 1 the step changes nothing; nobody waits to know. None: every step counts.
    """

    found_inf: Tensor | None = None

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


def refuse_negative(optimizer: str, **settings: float) -> None:
    """Raise a UserError that names the first setting that is negative (or NaN)."""
    for name, value in settings.items():
        if not value >= 0.0:
            raise UserError(f"{optimizer}: {name} is {value}, but must not be negative", allowed="0 or more")
