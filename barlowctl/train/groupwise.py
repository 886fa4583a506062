"""What our own optimizers share: a step is an update of every group that has gradients."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, overload

import torch

from barlowctl.errors import UserError


class GroupwiseOptimizer(torch.optim.Optimizer, ABC):
    """`step` with torch's closure convention around `update(group)`, which a subclass defines."""

    @abstractmethod
    def update(self, group: dict[str, Any]) -> None:
        """One update, in place and without gradients, of the parameters of a group that have a gradient."""

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
