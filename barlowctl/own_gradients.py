"""Gradients by formulas of ours: that have no gradient themselves, or that were just made for the one place they go to.

To the latter another may be added in place.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from torch import Tensor
from torch.autograd import function

_MADE_HERE = "barlowctl_made_here"


def made_here(gradient: Tensor) -> None:
    """Note that a gradient was just made for a shortcut, and that nobody else has it."""
    setattr(gradient, _MADE_HERE, True)


def is_made_here(gradient: Tensor) -> bool:
    """Whether that was noted of the gradient."""
    return bool(getattr(gradient, _MADE_HERE, False))


def once_differentiable(backward: Callable[..., Any]) -> Callable[..., Any]:
    """torch's own, which leaves and enters a mode at each call, where a graph of gradients is asked for.

    Elsewhere nothing is recorded anyway, and that takes as long as a small kernel.
    """
    recorded = function.once_differentiable(backward)

    @wraps(backward)
    def called(ctx: Any, *gradients: Any) -> Any:
        return recorded(ctx, *gradients) if torch.is_grad_enabled() else backward(ctx, *gradients)

    return called
