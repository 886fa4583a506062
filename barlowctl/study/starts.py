"""The weights that cells of a study start from: all cells that name the same start from the same bytes."""

from __future__ import annotations

import tomllib
from pathlib import Path

from barlowctl import shell
from barlowctl.assemble.weights import read_weights
from barlowctl.errors import UserError
from barlowctl.output_paths import free
from barlowctl.recipe import load
from barlowctl.recipe.schema import Recipe


def pinned(cells: Path, recipe: Recipe) -> Recipe:
    """The recipe of a cell that begins, with the sha256 of its weights that cells before it noted.

    With `--init` the sha256 is in the study's recipe. Weights that `--set`, a recipe or a variant names may have other
    bytes by the time the next cell begins.

    Args:
        cells: the folder of all cells.

    Raises:
        UserError: a cell before it has started from other weights of that name.
    """
    weights = recipe.init.weights
    if not weights or recipe.init.sha256:
        return recipe
    noted = {
        file.parent: digest for file in sorted(cells.glob("*/seed-*/recipe.toml")) if (digest := _noted(file, weights))
    }
    if not noted:
        return recipe
    digest = read_weights(weights).sha256
    for cell, earlier in noted.items():
        if earlier != digest:
            raise UserError(
                f"'{weights}' holds other weights than when this study began: their sha256 is {digest}, and {cell} "
                f"started from {earlier}",
                allowed="the weights as they were, or a study of its own",
                next=shell.line("--out", free(cells.parent)),
            )
    return load.override(recipe, [f"init.sha256={digest}"])


def _noted(file: Path, weights: str) -> str:
    """The sha256 of a cell's weights, where they are called so; empty: others, none, or no recipe."""
    try:
        init = tomllib.loads(file.read_text(encoding="utf-8")).get("init", {})
    except (OSError, ValueError):
        return ""
    return str(init.get("sha256", "")) if init.get("weights") == weights else ""
