"""The key of a recipe that a bare word means: `epochs`, `lr`, `arch`, `optimizer`; and what the key takes."""

from __future__ import annotations

import json
from typing import Any

from pydantic import BaseModel

from barlowctl.recipe import objectives, optimizers
from barlowctl.recipe.allowed import allowed
from barlowctl.recipe.other_words import key_meant, key_of_section
from barlowctl.recipe.problems import schema_keys
from barlowctl.recipe.schema import Recipe


def key_of(word: str) -> str | None:
    """The dotted key that is called so, here or in other tools; None: none is."""
    keys = _keys()
    named = [key for key in keys if key.rpartition(".")[2] == word]
    return next(iter(named), None) or key_meant(word, keys) or key_of_section(word)


def takes(key: str) -> str:
    """What a key takes, in words: `a whole number from 1`.

    Args:
        key: of any method.
    """
    if key == "objective.name":
        return ", ".join(objectives.METHODS)
    if key == "optimizer.name":
        return ", ".join(map(json.dumps, (*optimizers.OURS, *optimizers.REGISTERED)))
    section, name = _place(key)
    words = allowed(section.model_json_schema()["properties"][name], quoted=str)
    return (section.model_fields[name].description or words) if words == "text" else words


def default(key: str) -> Any:
    """A value that the key takes: its default; of one without any, None."""
    section, name = _place(key)
    info = section.model_fields[name]
    return None if info.is_required() else info.get_default(call_default_factory=True)


def _keys() -> tuple[str, ...]:
    """Those of every method, Barlow Twins' first."""
    return tuple(dict.fromkeys(key for method in objectives.METHODS.values() for key in schema_keys(method)))


def _place(key: str) -> tuple[type[BaseModel], str]:
    """The section that has a key, and the key's name in it."""
    *path, name = key.split(".")
    section: Any = Recipe
    for part in path:
        section = _objective(key) if part == "objective" else section.model_fields[part].annotation
    return section, name


def _objective(key: str) -> type[BaseModel]:
    return next(method for method in objectives.METHODS.values() if key in schema_keys(method))
