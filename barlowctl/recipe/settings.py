"""The settings of a run, to be compared with another's: dotted keys and plain values."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from barlowctl.errors import UserError
from barlowctl.recipe import load
from barlowctl.recipe.objectives import DEFAULT, METHODS
from barlowctl.recipe.text import read_text


def settings_of(run: Path) -> dict[str, Any]:
    """Of the recipe in a run's folder; those of a method that nobody has registered here as the file has them.

    Raises:
        UserError: the file is no recipe.
    """
    file = run / "recipe.toml"
    try:
        return load.flatten(load.load(str(file)))
    except UserError:
        if (keys := _of_another_process(file)) is None:
            raise
    others = tomllib.loads(read_text(file)) | {"objective": {}}
    settings = load.flatten(load.validate(others, str(file)))
    own = {key: value for key, value in settings.items() if not key.startswith("objective.")}
    args = keys.get("args", {})
    of_args = {f"args.{key}": value for key, value in args.items()} if isinstance(args, dict) else {}
    named = {key: value for key, value in keys.items() if key != "args"} | of_args
    return own | {f"objective.{key}": value for key, value in named.items()}


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """Keys whose values differ, with the new value (None where there is none); what a run is called is no setting."""
    keys = dict.fromkeys((*old, *new))
    return {key: new.get(key) for key in keys if old.get(key) != new.get(key) and key not in ("name", "description")}


def _of_another_process(file: Path) -> dict[str, Any] | None:
    """The keys of a method that is not registered in this one; None: it is, or barlowctl's own, or there is none."""
    try:
        own = tomllib.loads(read_text(file)).get("objective")
    except (OSError, ValueError):
        return None
    return own if isinstance(own, dict) and own.get("name", DEFAULT) not in METHODS else None
