"""A run goes on with the numbers that it began with, whatever limits later versions set."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest

from barlowctl.errors import UserError
from barlowctl.recipe import load
from barlowctl.recipe.begun import begun


@pytest.fixture
def values() -> dict[str, Any]:
    return load.load("quickstart").model_dump(mode="json")


def test_what_is_within_the_limits_is_as_ever(values: dict[str, Any]) -> None:
    assert begun(values, "run.json") == load.load("quickstart")


@pytest.mark.parametrize(
    ("key", "number"),
    [
        ("optimizer.lr_biases", 1e-13),  # from 1e-12 on
        ("objective.lambd", 1e9),  # in a section of several kinds
        ("optimizer.betas.1", 1.0),  # in a list, below 1
        ("train.batch_size", 2**33),
        ("views.first.blur_sigma.0", 1e-5),
    ],
)
def test_a_number_beyond_todays_limits_is_taken_as_it_is(key: str, number: float, values: dict[str, Any]) -> None:
    *path, last = [int(part) if part.isdecimal() else part for part in key.split(".")]
    table: Any = values
    for part in path:
        table = table[part]
    table[last] = number
    before = copy.deepcopy(values)
    with pytest.raises(UserError):
        load.validate(values, "run.json")
    recipe = begun(values, "run.json")
    assert recipe.model_dump(mode="json") == before == values
    assert load.digest(recipe) != load.digest(load.load("quickstart"))


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [("optimizer", "name", "adam"), ("train", "epoch", 3), ("train", "epochs", "many"), ("optimizer", "lr", math.nan)],
)
def test_what_no_version_took_is_refused_as_ever(section: str, key: str, value: Any, values: dict[str, Any]) -> None:
    values[section][key] = value
    values["optimizer"]["lr_biases"] = 1e-13
    with pytest.raises(UserError) as expected:
        load.validate(values, "run.json")
    with pytest.raises(UserError) as raised:
        begun(values, "run.json")
    assert raised.value.message == expected.value.message
