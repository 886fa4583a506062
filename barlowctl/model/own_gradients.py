"""Gradients that were just made for the one place that they go to, so that another may be added to them in place."""

from __future__ import annotations

from torch import Tensor

_MADE_HERE = "barlowctl_made_here"


def made_here(gradient: Tensor) -> None:
    """Note that a gradient was just made for a shortcut, and that nobody else has it."""
    setattr(gradient, _MADE_HERE, True)


def is_made_here(gradient: Tensor) -> bool:
    """Whether that was noted of the gradient."""
    return bool(getattr(gradient, _MADE_HERE, False))
