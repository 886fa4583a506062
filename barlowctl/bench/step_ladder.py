"""A ladder of our own settings: each rung changes one thing, and is compared with the rung that it changes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from barlowctl.assemble.machine import check_compiler
from barlowctl.errors import UserError
from barlowctl.recipe import load
from barlowctl.recipe.schema import Recipe


@dataclass(frozen=True)
class Rung:
    """against: the rung that it changes. sets: the recipe's values that differ from the first rung's."""

    name: str
    against: str | None
    sets: tuple[str, ...] = field(default=())
    optimizer: str = "own"

    def recipe(self, base: Recipe) -> Recipe:
        """The base recipe with all that this rung sets."""
        return load.override(base, [*FIRST, *self.sets])


FIRST = (
    "train.precision=fp32",
    "train.channels_last=false",
    "objective.form=primal",
    "train.compile=false",
    "train.activation_checkpointing=false",
    "train.cuda_graph=false",
)
CHANNELS, BF16, GRAM = "train.channels_last=true", "train.precision=bf16", "objective.form=auto"
COMPILE, AGAIN, GRAPH = "train.compile=true", "train.activation_checkpointing=true", "train.cuda_graph=true"
LADDER = (
    Rung("fp32, contiguous", None, optimizer="loop"),
    Rung("channels_last", "fp32, contiguous", (CHANNELS,), "loop"),
    Rung("fp16", "channels_last", (CHANNELS, "train.precision=fp16"), "loop"),
    Rung("bf16", "channels_last", (CHANNELS, BF16), "loop"),
    Rung("form chosen by size", "bf16", (CHANNELS, BF16, GRAM), "loop"),
    Rung("multi-tensor optimizer", "form chosen by size", (CHANNELS, BF16, GRAM)),
    Rung("train.compile", "multi-tensor optimizer", (CHANNELS, BF16, GRAM, COMPILE)),
    Rung("both views in one pass", "multi-tensor optimizer", (CHANNELS, BF16, GRAM)),
    Rung("captured graph", "multi-tensor optimizer", (CHANNELS, BF16, GRAM, GRAPH)),
    Rung("compiled and captured", "train.compile", (CHANNELS, BF16, GRAM, COMPILE, GRAPH)),
    Rung("activation checkpointing", "multi-tensor optimizer", (CHANNELS, BF16, GRAM, AGAIN)),
)
MISSING = {
    "both views in one pass": "batch norm sees one view at a time, and there is no pass with statistics of each yet",
}
"""Rungs that nothing makes so far."""


def choose_rungs(recipe: Recipe, device: torch.device) -> tuple[list[Rung], dict[str, str]]:
    """The rungs that can be here, and why the others cannot."""
    left_out = dict(MISSING)
    if device.type == "cpu":
        left_out |= dict.fromkeys(("captured graph", "compiled and captured"), "CUDA graphs are of CUDA devices")
        left_out["fp16"] = "a CPU's fp16 convolutions are about a hundred times slower backward than its fp32 ones"
    if recipe.optimizer.name != "lars":
        left_out["multi-tensor optimizer"] = "only LARS is compared with a loop, and the recipe has another optimizer"
    try:
        check_compiler(device)
    except UserError as error:
        left_out["train.compile"] = left_out["compiled and captured"] = error.message
    return [rung for rung in LADDER if rung.name not in left_out], left_out


def standing_on(rung: Rung, measured: Sequence[str]) -> str | None:
    """The nearest rung below that was measured."""
    below = rung.against
    while below is not None and below not in measured:
        below = next(other for other in LADDER if other.name == below).against
    return below
