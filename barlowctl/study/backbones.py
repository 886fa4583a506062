"""Backbones that a grid names: each has to be one that timm knows, before anything is timed or trained."""

from __future__ import annotations

from collections.abc import Sequence

from barlowctl.errors import UserError
from barlowctl.model.registered import check_name
from barlowctl.recipe.schema import Recipe
from barlowctl.study.directory import Cell


def check_backbones(base: Recipe, cells: Sequence[Cell]) -> None:
    """Refuse a backbone that is no architecture, the base recipe's first.

    Raises:
        UserError: of a grid's variant, with its name and the table of the file.
    """
    check_name(base.model.backbone)
    for cell in cells:
        try:
            check_name(cell.recipe.model.backbone)
        except UserError as error:
            variant = cell.variant
            table = f"[{variant.name}] of {variant.grid}"
            message = f"{variant.grid}, {variant.title}: {error.message}"
            raise UserError(message, allowed=error.allowed, next=f"correct {table}") from error
