"""The settings of a run, to be compared with another's: dotted keys and plain values."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from barlowctl.errors import UserError
from barlowctl.recipe import load, objectives, optimizers
from barlowctl.recipe.text import read_text


def settings_of(run: Path) -> dict[str, Any]:
    """Of the recipe in a run's folder; those of what nobody has registered here as the file has them.

    Raises:
        UserError: the file is no recipe.
    """
    file = run / "recipe.toml"
    try:
        return load.flatten(load.load(str(file)))
    except UserError:
        if not (parts := _of_another_process(file)):
            raise
    others = tomllib.loads(read_text(file)) | {section: {} for section in parts}
    settings = load.flatten(load.validate(others, str(file)))
    for section, keys in parts.items():
        settings = {key: value for key, value in settings.items() if not key.startswith(f"{section}.")}
        args = keys.get("args", {})
        of_args = {f"args.{key}": value for key, value in args.items()} if isinstance(args, dict) else {}
        named = {key: value for key, value in keys.items() if key != "args"} | of_args
        settings |= {f"{section}.{key}": value for key, value in named.items()}
    return settings


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """Keys whose values differ, with the new value (None where there is none); what a run is called is no setting."""
    keys = dict.fromkeys((*old, *new))
    return {key: new.get(key) for key in keys if old.get(key) != new.get(key) and key not in ("name", "description")}


def _of_another_process(file: Path) -> dict[str, dict[str, Any]]:
    """The sections of a method and an optimizer that are registered in another process, and not in this one."""
    try:
        values = tomllib.loads(read_text(file))
    except (OSError, ValueError):
        return {}
    unknown = {"objective": objectives.unknown, "optimizer": optimizers.unknown}
    return {
        section: own
        for section, name in unknown.items()
        if isinstance(own := values.get(section), dict) and name(own) is not None
    }
