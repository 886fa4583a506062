"""The recipe that a study's variants change, and the weights that all of them start from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from barlowctl.cli.init_weights import overrides_with_init
from barlowctl.errors import UserError

if TYPE_CHECKING:
    from barlowctl.recipe.schema import Recipe
    from barlowctl.study.directory import StudyDirectory


def base_recipe(recipe: str, overrides: list[str], init: str | None) -> Recipe:
    """The recipe that all variants change. With `init` it has what follows from the weights (see `start.begin`).

    Their sha256 is part of it, so that a study whose weights have changed is another one. Variants begin alike, by the
    backbone alone: a head would fit some of them and not others. `init.heads=true` takes it nevertheless.

    Raises:
        UserError: a seed of its own: a study's seeds are --seeds; weights that cannot be read.
    """
    from barlowctl.recipe import load

    if init is not None:
        overrides = overrides_with_init(["init.heads=false", *overrides], init) or []
    base = load.load(recipe, overrides)
    if base.seed != load.load(recipe).seed:
        raise UserError(
            "--set seed is not for studies",
            allowed="--seeds N: seeds 0 to N - 1",
            next=f"without --set=seed={base.seed}",
        )
    if init is None:
        return base
    from barlowctl.assemble.start import begin

    return begin(base)[0]


def refuse_idle_keys(directory: StudyDirectory, overrides: list[str]) -> None:
    """Refuse flags that change no variant, and keys of a grid's table that change nothing in it.

    Raises:
        UserError: names them.
    """
    from barlowctl.recipe.idle import refuse_idle

    refuse_idle([cell.recipe for cell in directory.cells], overrides)
    for cell in directory.cells:
        if cell.variant.grid is not None:
            refuse_idle([cell.recipe], cell.variant.overrides, f"[{cell.variant.name}] of {cell.variant.grid}")
