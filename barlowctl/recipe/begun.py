"""The recipe of a run that began under wider limits: its numbers are taken as they are."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from barlowctl.recipe import load
from barlowctl.recipe.refused import LIMITS, nearest
from barlowctl.recipe.schema import Recipe


def begun(values: Mapping[str, Any], file: str) -> Recipe:
    """A recipe from the values that a run began with; `file` is named in errors.

    A number that was allowed then goes on as it did, though today's limits refuse it in a new run.

    Raises:
        UserError: anything else is wrong with them.
    """
    within = copy.deepcopy(dict(values))
    beyond: list[tuple[list[Any], Any]] = []
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        for problem in error.errors():
            path = _path(values, problem["loc"])
            if problem["type"] in LIMITS and path:
                beyond.append((path, _put(within, path, nearest(problem))))
    try:
        recipe = Recipe.model_validate(within)
    except ValidationError:
        return load.validate(dict(values), file)  # which says what is wrong
    for path, value in beyond:
        recipe = _with(recipe, path, value)
    return recipe


def _path(values: Any, loc: Sequence[Any]) -> list[Any]:
    """Where in the values a problem is: pydantic names the kinds of a union on the way too."""
    path = []
    for part in loc:
        if (isinstance(values, dict) and part in values) or (isinstance(values, list) and isinstance(part, int)):
            values = values[part]
            path.append(part)
    return path


def _put(values: Any, path: Sequence[Any], value: Any) -> Any:
    """Put a value into nested ones; returns the former."""
    for part in path[:-1]:
        values = values[part]
    former, values[path[-1]] = values[path[-1]], value
    return former


def _with(section: Any, path: Sequence[Any], value: Any) -> Any:
    """A section, or a tuple in one, with a value at its place, not validated."""
    first, rest = path[0], path[1:]
    if isinstance(section, tuple):
        new = _with(section[first], rest, value) if rest else value
        return (*section[:first], new, *section[first + 1 :])
    new = _with(getattr(section, first), rest, value) if rest else value
    return section.model_copy(update={first: new})
