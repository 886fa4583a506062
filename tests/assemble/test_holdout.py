"""Images that are held out as queries: none of them, or too many, are refused with what fits the images there are."""

from __future__ import annotations

import shlex

import pytest

from barlowctl.assemble.data import check_holdout
from barlowctl.errors import UserError
from barlowctl.recipe import load
from barlowctl.recipe.schema import Recipe


def recipe_of(*overrides: str) -> Recipe:
    """The quickstart's, whose queries are held out."""
    return load.load("quickstart", ["train.batch_size=16", *overrides])


def changes(error: UserError) -> list[list[str]]:
    """What each line of the advice sets."""
    assert error.next is not None
    return [[word for word in shlex.split(line) if word != "--set"] for line in error.next.splitlines()]


def test_queries_of_none_are_refused_with_a_share_of_the_images_or_without_queries() -> None:
    recipe = recipe_of("data.holdout=0", "eval.linear=true", "train.keep_best=knn", "train.stop=alpha")
    with pytest.raises(UserError, match=r"^data\.holdout is 0, and eval\.queries is 'holdout'") as refused:
        check_holdout(80, recipe)
    some, none = changes(refused.value)
    assert some == ["data.holdout=8"]
    assert none == ["eval.queries=off", "eval.linear=false", "train.keep_best=off"]
    for change in (some, none):
        check_holdout(80, load.override(recipe, change))


def test_where_no_image_can_be_spared_there_are_no_queries() -> None:
    with pytest.raises(UserError) as refused:
        check_holdout(16, recipe_of("data.holdout=0"))
    assert changes(refused.value) == [["eval.queries=off"]]


def test_none_are_held_out_where_nothing_asks_about_them() -> None:
    check_holdout(80, recipe_of("data.holdout=0", "eval.queries=off"))
    check_holdout(80, recipe_of("data.holdout=8"))
