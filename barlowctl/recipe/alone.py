"""A recipe stands alone: what other tools call the file that one takes its other keys from is refused."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from barlowctl import shell
from barlowctl.errors import UserError
from barlowctl.output_paths import free
from barlowctl.recipe import catalog
from barlowctl.recipe.problems import Origin

FROM_ANOTHER = {"base", "defaults", "extend", "extends", "include", "includes", "inherit", "inherits", "parent"}
"""What the key of such a file is called elsewhere, in small letters and without underscores around it (`_BASE_`)."""


def refuse_inheritance(values: Mapping[str, Any], origin: Origin) -> None:
    """Refuse the values of a file that names another one to take its other keys from.

    Raises:
        UserError: it does; all else that is missing follows from it.
    """
    for key, value in values.items():
        if key.strip("_").lower() not in FROM_ANOTHER or key in origin.overridden:
            continue
        begun = _recipe_of(value) or origin.example
        copied = Path(f"{Path(begun).stem}.toml")
        raise UserError(
            f"{origin.of(key)}: '{key}' is no key: a recipe stands alone, and takes nothing from another one",
            allowed="a copy of a recipe, changed where yours differs (a key that it lacks has the default of "
            "docs/recipe.md); or the recipe as it is, and --set KEY=VALUE beside it",
            next=shell.line("barlowctl", "recipes", "copy", begun, free(copied) if copied.exists() else copied),
        )


def _recipe_of(value: Any) -> str | None:
    """The recipe that such a key names, first of several: one that there is; None: there is no such one."""
    first = value[0] if isinstance(value, list) and value else value
    if not isinstance(first, str):
        return None
    names = (first, Path(first).stem)
    return next((name for name in names if name in catalog.shipped() or (first == name and Path(name).is_file())), None)
