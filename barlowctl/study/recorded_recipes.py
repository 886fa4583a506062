"""Recipes of variants whose optimizer, somebody's own, nobody has registered in this process: as their cells have them.

So the table of a study is shown wherever its folder is. Going on with it takes whoever registers the optimizer.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from barlowctl.assemble import own_parts, run_recipe
from barlowctl.errors import UserError
from barlowctl.recipe import load
from barlowctl.recipe.optimizers import Unregistered, unregistered
from barlowctl.recipe.schema import Recipe
from barlowctl.study.study import Study
from barlowctl.study.variant import Variant


def recipes_of(studies: Iterable[Study], base: Recipe, out: Path) -> Iterator[tuple[Study, Variant, Recipe]]:
    """Every variant of some studies, and the base recipe with what it changes.

    Args:
        out: directory of the studies, whose cells note the optimizers that were registered.

    Raises:
        UserError: see `Variant.recipe`.
    """
    optimizers = own_parts.unregistered_optimizers(out)
    for study in studies:
        for variant in study.variants:
            with unregistered(*optimizers):
                recipe = variant.recipe(base, study.source)
            whole = not isinstance(recipe.optimizer, Unregistered)
            yield study, variant, recipe if whole else _as_recorded(variant, recipe, out)


def _as_recorded(variant: Variant, recipe: Recipe, out: Path) -> Recipe:
    """With the defaults of the optimizer's arguments, which its class had and a cell's recipe says."""
    for run in sorted((out / "cells").glob(f"{variant.name}-*/seed-*")):
        with suppress(UserError):
            there = run_recipe.recipe_of(run).model_copy(update={"seed": recipe.seed})
            if run.parent.name.endswith(load.digest(there)[:8]) and _has_all_of(there, recipe):
                return there
    return recipe


def _has_all_of(there: Recipe, recipe: Recipe) -> bool:
    """Whether a cell's recipe has every value that a variant's says."""
    values, missing = load.flatten(there), object()
    return all(
        values.get(key, missing) == value
        for key, value in load.flatten(recipe).items()
        if key not in ("name", "description") and value not in (None, {})
    )
