"""A recipe's predictor, where its method has none."""

from __future__ import annotations

from barlowctl.errors import UserError
from barlowctl.recipe.schema import Recipe


def refuse_predictor(recipe: Recipe) -> None:
    """Refuse a predictor for a method without one.

    Raises:
        UserError: the recipe has one.
    """
    if recipe.model.predictor:
        raise UserError(
            f"{recipe.objective.title} has no predictor, and model.predictor is {list(recipe.model.predictor)}",
            allowed="an empty one",
            next="--set model.predictor=[]",
        )
