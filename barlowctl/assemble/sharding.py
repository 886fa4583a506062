"""Whether a recipe's backbone can be divided among ranks (`train.shard`): see `barlowctl.train.sharding`."""

from __future__ import annotations

from dataclasses import replace

from torch import nn

from barlowctl.errors import UserError
from barlowctl.model import Footprint
from barlowctl.recipe.optimizers import OwnOptimizer
from barlowctl.recipe.schema import Recipe
from barlowctl.train.sharding import blocks

NUMBER_BY_NUMBER = ("sgd", "adamw")
"""Optimizers whose step takes every number by itself."""


def check_sharding(recipe: Recipe) -> None:
    """Refuse what a backbone that is divided among ranks cannot be, on any number of them.

    Raises:
        UserError: with what is in the way.
    """
    train, optimizer = recipe.train, recipe.optimizer.name
    if not train.shard:
        return
    refusals = [
        (
            optimizer not in NUMBER_BY_NUMBER and not isinstance(recipe.optimizer, OwnOptimizer),
            f"optimizer.name is '{optimizer}', which needs whole tensors (their norms, or their directions)",
            f"optimizer.name = {' or '.join(NUMBER_BY_NUMBER)}, or a backbone that is whole on every device",
            None,
        ),
        (
            isinstance(recipe.optimizer, OwnOptimizer) and not recipe.optimizer.elementwise,
            f"the optimizer {optimizer!r} does not say that its step takes every number by itself",
            "a class with elementwise = True, where that is so; or a backbone that is whole on every device",
            None,
        ),
        (
            recipe.objective.averages,
            f"in {recipe.objective.title} a moving average follows the backbone, whole tensors after whole tensors",
            "a method without one, or a backbone that is whole on every device",
            None,
        ),
        (
            train.freeze != "none" or train.freeze_backbone_epochs > 0,
            "parts of the backbone are frozen (train.freeze, train.freeze_backbone_epochs)",
            "a backbone that is trained whole from the first step on, or one that is whole on every device",
            None,
        ),
        (train.compile, "train.compile is true", "one of the two", "train.compile=false"),
        (
            train.precision == "fp16",
            "train.precision is fp16, whose overflow every rank would see in its own part alone",
            "fp32, bf16",
            "train.precision=bf16",
        ),
    ]
    for applies, reason, allowed, override in refusals:
        if applies:
            raise UserError(
                f"train.shard is true, and {reason}",
                allowed=allowed,
                next=f"--set {override or 'train.shard=false'}",
            )


def divided(memory: Footprint, backbone: nn.Module, ranks: int) -> Footprint:
    """The memory of a step on one of the ranks, of `memory` with a whole backbone.

    A rank has its part of the backbone's weights, gradients and optimizer state. Beside them it has whole, while it
    computes, what is in no block, the block in progress with its gradient, and the next one, gathered meanwhile.
    """
    whole = _bytes(backbone)
    of_blocks = [_bytes(block) for block in blocks(backbone)]
    elsewhere, alone = whole - whole // ranks, whole - sum(of_blocks)
    largest = max(of_blocks, default=0)
    slots = memory.optimizer / max(memory.gradients, 1)
    return replace(
        memory,
        parameters=memory.parameters - elsewhere + alone + 2 * largest,
        gradients=memory.gradients - elsewhere + alone + largest,
        optimizer=memory.optimizer - round(slots * elsewhere),
    )


def _bytes(module: nn.Module) -> int:
    return sum(p.numel() * p.element_size() for p in module.parameters())
