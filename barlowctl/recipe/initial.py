"""The section of a recipe that says which weights a training starts from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field

from barlowctl.recipe.section import Section


class Init(Section):
    """Where the weights come from that the first step finds. Not for going on with a run: that is `--resume`."""

    weights: str = Field(
        "",
        description="a run, an export, the authors' files, a state dict (.safetensors, .pth), a Hugging Face folder, "
        "or a timm name with published weights; empty: random weights",
    )
    heads: bool = Field(True, description="take the projector and other heads too, of the same method and shapes")
    partial: bool = Field(False, description="take what fits of weights that do not fit as a whole")
    network: Literal["recipe", "weights"] = Field(
        "recipe", description="whose backbone is trained: [model]'s, or that of the weights, where they say theirs"
    )
    normalization: Literal["weights", "recipe"] = Field(
        "weights", description="whose mean and std the input is normalised with, where the weights say theirs"
    )
    sha256: Annotated[str, Field(pattern=r"^([0-9a-f]{64})?$")] = Field(
        "", description="of the weights (names, types, shapes, bytes): others are refused; a run notes its own here"
    )


def for_channels(values: Sequence[float], channels: int) -> tuple[float, ...]:
    """Statistics of an input with another number of channels: all get their mean."""
    values = [float(value) for value in values]  # as a recipe's are, whatever a file had
    return tuple(values) if len(values) == channels else (round(sum(values) / len(values), 6),) * channels
