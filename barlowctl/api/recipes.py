"""A recipe as Python gives it: a name, a file, a value or tables, and overrides as a dictionary."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tomli_w
from pydantic import BaseModel
from torch import Tensor

from barlowctl.errors import UserError, kind_of
from barlowctl.recipe import catalog, load
from barlowctl.recipe.idle import refuse_idle
from barlowctl.recipe.overrides import PREPARING
from barlowctl.recipe.schema import Recipe

Overrides = Mapping[str, Any]
RecipeLike = str | Path | Recipe | Mapping[str, Any]


def open_recipe(recipe: RecipeLike | None, overrides: Overrides | None = None) -> Recipe:
    """A complete recipe.

    Args:
        recipe: a shipped recipe's name, a TOML file, a `Recipe`, or its tables as a dictionary
            (`{"data": {"dataset": "photos"}, "train": {"epochs": 10}}`; "name" may be left out).
        overrides: values in place of the recipe's: `{"train.epochs": 5}`, or nested, `{"train": {"epochs": 5}}`.

    Raises:
        UserError: no such recipe, an unknown key, a value that is not allowed, an override that changes nothing.
    """
    if recipe is None:
        raise UserError("no recipe was named", allowed=", ".join(catalog.shipped()), next="recipe='quickstart'")
    texts = override_texts(overrides or {})
    opened = _opened(recipe, texts)
    refuse_idle([opened], texts)
    return opened


def _opened(recipe: RecipeLike, overrides: list[str]) -> Recipe:
    if isinstance(recipe, Recipe):
        return load.parse(load.dump(recipe), overrides)
    if isinstance(recipe, Mapping):
        tables = json.loads(json.dumps({"name": "recipe", **recipe}, default=str))
        return load.parse(tomli_w.dumps(tables), overrides)
    return load.load(str(recipe), overrides)


ARGUMENTS = "objective.args"
"""The section of a registered method's keys: which they are, only that method knows."""


def override_texts(overrides: Overrides) -> list[str]:
    """Overrides as `--set` takes them: key=value, the value as TOML writes it."""
    texts = []
    for key, value in _leaves(overrides, Recipe):
        try:
            texts.append(f"{key}={_toml(value)}")
        except TypeError as error:
            raise UserError(
                f"overrides has {kind_of(value)} for {key!r}: {error}",
                allowed="numbers, strings, True and False, and lists and dictionaries of them; a network by its name "
                "in timm (docs/python.md, Parts of your own)",
            ) from error
    return texts


def parted(overrides: Overrides) -> tuple[Overrides, Overrides]:
    """Those that say how images are shown to a network, and the others, those of a protocol: by dotted keys."""
    leaves = dict(_leaves(overrides, Recipe))
    showing = {key: value for key, value in leaves.items() if f"{key}=".startswith(PREPARING)}
    return showing, {key: value for key, value in leaves.items() if key not in showing}


def _leaves(values: Overrides, schema: type[BaseModel] | None, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys and their values. A dictionary that is a value of the schema, and no section of it, stays one."""
    for key, value in values.items():
        section = _section(schema, key)
        if isinstance(value, Mapping) and section is not None:
            yield from _leaves(value, section, f"{prefix}{key}.")
        elif isinstance(value, Mapping) and value and f"{prefix}{key}" == ARGUMENTS:
            yield from ((f"{ARGUMENTS}.{name}", argument) for name, argument in value.items())
        else:
            yield f"{prefix}{key}", value


def _section(schema: type[BaseModel] | None, key: str) -> type[BaseModel] | None:
    """The schema of a section; None: the key is a value, or more than one key."""
    field = None if schema is None else schema.model_fields.get(key)
    if field is None:
        return None
    if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
        return field.annotation
    return BaseModel if isinstance(field.default, BaseModel) else None  # one of several: the objective's


def _toml(value: Any) -> str:
    """A value as TOML writes it, in one line; of NumPy's and torch's their numbers.

    Raises:
        TypeError: TOML has no such values.
    """
    value = value.tolist() if isinstance(value, np.ndarray | np.generic | Tensor) else value
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{json.dumps(str(key))} = {_toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(str(value) if isinstance(value, Path) else value)
