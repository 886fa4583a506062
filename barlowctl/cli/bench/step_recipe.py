"""What a step is measured of: options that `bench step` and `bench profile` share, and the recipe of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from barlowctl.cli import options
from barlowctl.errors import UserError

if TYPE_CHECKING:
    import torch

    from barlowctl.recipe.schema import Recipe

STEP = "Step"
"""The options' panel of the help."""

StepRecipe = Annotated[
    str, options.recipe("Network, objective and optimizer: a shipped recipe's name, or a TOML file.")
]
Method = Annotated[
    str | None,
    options.method(
        "Its heads, loss and optimizer instead, as in that method's own recipe: vicreg, simclr, moco, "
        "moco-v2, byol, simsiam or swav. Default: the recipe's.",
        STEP,
    ),
]
Backbone = Annotated[str | None, options.backbone(STEP, "A timm model, instead of its.")]
Batch = Annotated[int, options.batch("Images of a batch.", STEP, min=16)]
Size = Annotated[int | None, options.size("Side of a view, in pixels. Default: the recipe's.", STEP)]
Widths = Annotated[
    str | None,
    typer.Option(
        "--widths",
        metavar="WIDTHxLAYERS",
        help="Of the projector; or one by one: 8192,8192,8192. Default: the recipe's.",
        rich_help_panel=STEP,
    ),
]
Precision = Annotated[
    Literal["fp32", "bf16", "fp16"],
    typer.Option("--precision", help="What it computes in.", rich_help_panel=STEP),
]


def step_recipe(
    name: str,
    overrides: Sequence[str],
    *,
    method: str | None,
    backbone: str | None,
    batch: int,
    size: int | None,
    widths: str | None,
    precision: str,
    device: torch.device,
    say: Callable[[str], None],
) -> Recipe:
    """The recipe with what the options change; `overrides` last, so that advice to set a value is followed.

    say: where the processor emulates its precision, that.

    Raises:
        UserError: a recipe, a value or a method that there is not, or fp16 on a CPU.
    """
    from barlowctl.assemble.precision import emulated
    from barlowctl.recipe import load

    if precision == "fp16" and device.type == "cpu":
        raise UserError(
            "a CPU's fp16 is about a hundred times slower than its fp32", allowed="fp32, bf16", next="--precision bf16"
        )
    changes = [f"train.batch_size={batch}", f"train.precision={precision}"]
    changes += [f"model.backbone={backbone}"] if backbone else []
    changes += [f"views.size={size}"] if size is not None else []
    changes += [f"model.projector=[{_widths(widths)}]"] if widths else []
    recipe = load.load(name, [*_of_method(method, name), *changes, *overrides])
    if why := emulated(recipe.train.precision, device):
        say(f"{why}; a run of this recipe computes in fp32")
    return recipe


def _of_method(method: str | None, recipe: str) -> list[str]:
    """What turns the recipe into one of that method: the settings of the method's own recipe."""
    if method is None:
        return []
    from barlowctl.bench.compared import check_method
    from barlowctl.recipe import load
    from barlowctl.study.family import fitting
    from barlowctl.study.methods import settings_of

    base = load.load(recipe)
    settings = settings_of(check_method(method), base, fitting(base))
    return list(settings.overrides) if settings else []


def _widths(text: str) -> str:
    """`8192x3` or `8192,8192,8192` as a list's inside."""
    width, cross, layers = text.partition("x")
    times = cross and layers.isdecimal() and len(layers) < 3
    widths = [width] * int(layers) if times else text.split(",")
    if not all(width.strip().isdecimal() and len(width) < 8 for width in widths):
        allowed = "WIDTHxLAYERS of at most 99 layers, or widths joined by commas, each below 10,000,000"
        raise UserError(f"--widths is '{text}'", allowed=allowed, next="--widths 8192x3")
    return ",".join(widths)
