"""The recipe that a study's variants change, and the weights that all of them start from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from barlowctl import own_code
from barlowctl.cli.init_weights import overrides_with_init
from barlowctl.errors import UserError

if TYPE_CHECKING:
    from barlowctl.recipe.schema import Recipe
    from barlowctl.study.directory import StudyDirectory


def base_recipe(recipe: str, overrides: list[str], init: str | None, out: Path | None = None) -> Recipe:
    """The recipe that all variants change. With `init` it has what follows from the weights (see `start.begin`).

    Their sha256 is part of it, so that a study whose weights have changed is another one. Variants begin alike, by the
    backbone alone: a head would fit some of them and not others. `init.heads=true` takes it nevertheless.

    Args:
        out: the directory of the studies, which may note who registered the recipe's optimizer.

    Raises:
        UserError: a seed of its own: a study's seeds are --seeds; weights that cannot be read.
    """
    from barlowctl.assemble.own_parts import unregistered_optimizers
    from barlowctl.recipe import load
    from barlowctl.recipe.optimizers import unregistered

    for folder in [out] if out else Path("studies").glob("*"):
        own_code.remember_folder(folder)
    if init is not None:
        overrides = overrides_with_init(["init.heads=false", *overrides], init) or []
    with unregistered(*unregistered_optimizers(Path(recipe).parent)):
        base, plain = load.load(recipe, overrides), load.load(recipe)
    if base.seed != plain.seed:
        raise UserError(
            "--set seed is not for studies",
            allowed="--seeds N: seeds 0 to N - 1",
            next=f"without --set=seed={base.seed}",
        )
    if init is None:
        return base
    from barlowctl.assemble.start import begin

    return begin(base)[0]


def check_to_train(directory: StudyDirectory, overrides: list[str]) -> None:
    """Refuse flags that change no variant, keys of a grid's table that change nothing in it, and who is not registered.

    Raises:
        UserError: names them.
    """
    from barlowctl.assemble.optimizers import refuse_unregistered
    from barlowctl.recipe.idle import refuse_idle

    own_code.remember_folder(directory.out)
    for cell in directory.cells:
        refuse_unregistered(cell.recipe.optimizer)
    refuse_idle([cell.recipe for cell in directory.cells], overrides)
    for cell in directory.cells:
        if cell.variant.grid is not None:
            refuse_idle([cell.recipe], cell.variant.overrides, f"[{cell.variant.name}] of {cell.variant.grid}")
