"""An ablation of our own settings: each row changes one setting of the row that it is compared with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from barlowctl.assemble.machine import check_compiler
from barlowctl.errors import UserError
from barlowctl.recipe import load
from barlowctl.recipe.schema import Recipe

WAYS = ("products", "norms", "one_pass")


@dataclass(frozen=True)
class AblationRow:
    """against: the row whose setting it changes. sets: the recipe's values that differ from the first row's.

    optimizer: see `StepSettings`. ways: those of `WAYS` that it takes on a CPU.
    """

    name: str
    against: str | None
    sets: tuple[str, ...] = field(default=())
    optimizer: str = "own"
    ways: tuple[str, ...] = ()

    def of_a_cpu(self) -> dict[str, Any]:
        """`StepSettings` of that name: `products`, `norms` and `one_pass`."""
        return {way: way in self.ways for way in WAYS}

    def recipe(self, base: Recipe) -> Recipe:
        """The base recipe with all that this row sets."""
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
PRODUCTS = "convolutions as products"
NORMS, ONE_PASS = "batch norm with ReLU", "both views in one pass"
COMPILE, AGAIN, GRAPH = "train.compile=true", "train.activation_checkpointing=true", "train.cuda_graph=true"
ABLATION = (
    AblationRow("fp32, contiguous", None, optimizer="loop"),
    AblationRow("channels_last", "fp32, contiguous", (CHANNELS,), "loop"),
    AblationRow("fp16", "channels_last", (CHANNELS, "train.precision=fp16"), "loop"),
    AblationRow("bf16", "channels_last", (CHANNELS, BF16), "loop"),
    AblationRow("form chosen by size", "bf16", (CHANNELS, BF16, GRAM), "loop"),
    AblationRow("multi-tensor optimizer", "form chosen by size", (CHANNELS, BF16, GRAM)),
    AblationRow(PRODUCTS, "multi-tensor optimizer", (CHANNELS, BF16, GRAM), ways=WAYS[:1]),
    AblationRow(NORMS, PRODUCTS, (CHANNELS, BF16, GRAM), ways=WAYS[:2]),
    AblationRow(ONE_PASS, NORMS, (CHANNELS, BF16, GRAM), ways=WAYS),
    AblationRow("train.compile", ONE_PASS, (CHANNELS, BF16, GRAM, COMPILE), ways=WAYS),
    AblationRow("captured graph", ONE_PASS, (CHANNELS, BF16, GRAM, GRAPH), ways=WAYS),
    AblationRow("compiled and captured", "train.compile", (CHANNELS, BF16, GRAM, COMPILE, GRAPH), ways=WAYS),
    AblationRow("activation checkpointing", ONE_PASS, (CHANNELS, BF16, GRAM, AGAIN), ways=WAYS),
)


def choose_ablation(recipe: Recipe, device: torch.device) -> tuple[list[AblationRow], dict[str, str]]:
    """The rows that can run here, and why the others cannot."""
    left_out: dict[str, str] = {}
    if device.type == "cpu":
        left_out |= dict.fromkeys(("captured graph", "compiled and captured"), "CUDA graphs are of CUDA devices")
        left_out["fp16"] = "a CPU's fp16 convolutions are about a hundred times slower backward than its fp32 ones"
    else:
        left_out |= dict.fromkeys((PRODUCTS, NORMS, ONE_PASS), "of a CPU")
    if recipe.optimizer.name != "lars":
        left_out["multi-tensor optimizer"] = "only LARS is compared with a loop, and the recipe has another optimizer"
    try:
        check_compiler(device)
    except UserError as error:
        left_out["train.compile"] = left_out["compiled and captured"] = error.message
    return [row for row in ABLATION if row.name not in left_out], left_out


def nearest_measured(row: AblationRow, measured: Sequence[str]) -> str | None:
    """The row that it changes; if that was not measured, the nearest one before it that was."""
    below = row.against
    while below is not None and below not in measured:
        below = next(other for other in ABLATION if other.name == below).against
    return below
