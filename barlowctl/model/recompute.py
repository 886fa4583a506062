"""Activation checkpointing: activations are computed again in the backward pass instead of being kept."""

from __future__ import annotations

from timm.layers.config import set_reentrant_ckpt
from torch import nn

from barlowctl.errors import UserError, kind_of


def recompute_activations(backbone: nn.Module) -> nn.Module:
    """Let a timm backbone keep only the inputs of its blocks; the gradient stays the same.

    Raises:
        UserError: timm does not know how for this family.
    """
    set_reentrant_ckpt(False)  # a nested backward pass would report gradients more than once
    try:
        backbone.set_grad_checkpointing(True)  # type: ignore[operator]
    except (AttributeError, AssertionError, NotImplementedError):
        raise UserError(
            f"timm cannot recompute the activations of {kind_of(backbone)}",
            next="--set train.activation_checkpointing=false",
        ) from None
    return backbone
