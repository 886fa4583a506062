"""A recipe from a name, a file, a value or tables, with overrides as a dictionary."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from barlowctl.api.recipes import open_recipe, override_texts
from barlowctl.errors import UserError
from barlowctl.recipe import load


def test_all_ways_to_name_a_recipe_are_one(recipe: Path) -> None:
    expected = load.load(str(recipe), ["train.epochs=7"])
    tables = tomllib.loads(recipe.read_text())
    assert open_recipe(recipe, {"train.epochs": 7}) == expected
    assert open_recipe(str(recipe), {"train": {"epochs": 7}}) == expected
    assert open_recipe(load.load(str(recipe)), {"train.epochs": 7}) == expected
    assert open_recipe(tables, {"train.epochs": 7}) == expected
    del tables["name"]
    assert open_recipe(tables).name == "recipe"
    assert open_recipe("quickstart") == load.load("quickstart")


@pytest.mark.parametrize(
    ("overrides", "texts"),
    [
        ({"train": {"epochs": 2.5, "compile": True}, "seed": 3}, ["train.epochs=2.5", "train.compile=true", "seed=3"]),
        ({"views": {"first": {"crop_scale": (0.2, 1)}}}, ["views.first.crop_scale=[0.2, 1]"]),
        ({"views.first": {"blur": 0}}, ['views.first={"blur" = 0}']),
        ({"model": {"backbone_args": {"channels": [8, 16]}}}, ['model.backbone_args={"channels" = [8, 16]}']),
        ({"objective": {"name": "byol", "momentum": 0.9}}, ['objective.name="byol"', "objective.momentum=0.9"]),
        ({"init.weights": Path("a b.pth")}, ['init.weights="a b.pth"']),
        ({"epochs": 10}, ["epochs=10"]),
    ],
)
def test_overrides_are_written_as_the_command_takes_them(overrides: dict[str, Any], texts: list[str]) -> None:
    assert override_texts(overrides) == texts


def test_wrong_recipes_are_refused() -> None:
    with pytest.raises(UserError, match="no recipe was named"):
        open_recipe(None)
    with pytest.raises(UserError, match="epoch"):
        open_recipe("quickstart", {"train": {"epoch": 3}})
    with pytest.raises(UserError, match="batchsize"):
        open_recipe({"data": {"dataset": "x"}, "train": {"batchsize": 3}})
