"""Values checked against the schema of a recipe: one error names all that is wrong, and what makes it right."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from pydantic import ValidationError

from barlowctl import own_code, shell
from barlowctl.errors import UserError
from barlowctl.recipe import objectives, optimizers, refused
from barlowctl.recipe.alone import refuse_inheritance
from barlowctl.recipe.problems import Origin, distinct, explain
from barlowctl.recipe.section import DoesNotFit, Section

S = TypeVar("S", bound=Section)
ROUNDS = 8
"""How often values are looked at again without what was wrong."""
MOST = 5
"""Problems in an error."""


def validated(
    schema: type[S], values: dict[str, Any], origin: Origin, accepts: Callable[[Sequence[str]], bool] | None = None
) -> S:
    """The section of these values.

    Args:
        accepts: whether overrides in the place of those that were typed are valid; None: nothing was typed.

    Raises:
        UserError: all that is wrong.
    """
    try:
        return schema.model_validate(values)
    except ValidationError as error:
        refuse_inheritance(values, origin)
        _refuse_unregistered(values, origin)
        chosen = {
            "objective": objectives.named(values.get("objective")),
            "optimizer": optimizers.named(values.get("optimizer")),
        }
        problems = _all_problems(schema, values, distinct(error.errors()))
        words = [explain(problem, origin, chosen) for problem in problems]
        lines = list(dict.fromkeys(words))
        more = f"\n(and {len(lines) - MOST} more)" if len(lines) > MOST else ""
        following = refused.fitting(problems, origin.overridden)
        if following is None and accepts:
            following = refused.advice(problems, words, origin.overridden, accepts)
        following = following or shell.line("barlowctl", "recipes", "show", origin.example)
        raise UserError("\n".join(lines[:MOST]) + more, next=following) from None


def _refuse_unregistered(values: dict[str, Any], origin: Origin) -> None:
    """Refuse what somebody had registered when the run or study of the recipe began, and nobody has now.

    Raises:
        UserError: with what registers it.
    """
    parts = {
        "objective": ("method", objectives.unknown(values.get("objective"))),
        "optimizer": ("optimizer", optimizers.unknown(values.get("optimizer"))),
    }
    for section, (part, name) in parts.items():
        if name and (about := own_code.registered_then(part, name)):
            key = f"{section}.name"
            raise UserError(
                f"{origin.of(key)}: {key} is {name!r}, which {own_code.who(about)} registered when the run of this "
                "recipe began, and nobody has in this process",
                allowed=own_code.FIRST,
                next=own_code.first_step(about),
            )


def _all_problems(schema: type[S], values: dict[str, Any], first: Sequence[Any]) -> list[Any]:
    """All of pydantic's problems: it looks at how keys fit together only where each of them is right by itself."""
    problems, newest = list(first), list(first)
    remaining = copy.deepcopy(values)
    left_out: set[str] = set()
    for _ in range(ROUNDS):
        mended = [_mended(remaining, problem, left_out) for problem in newest]
        if not all(mended):
            break
        try:
            schema.model_validate(remaining)
            break
        except ValidationError as error:
            newest = distinct(error.errors())
        words = [set(re.findall(r"\w+", problem["msg"])) for problem in newest]
        problems += [problem for problem, named in zip(newest, words, strict=True) if not named & left_out]
    return problems


def _mended(values: dict[str, Any], problem: Any, left_out: set[str]) -> bool:
    """Leave out of values what a problem is of, or change what does not fit; whether that could be done."""
    names = refused.place_of(problem)
    reason = problem.get("ctx", {}).get("error")
    if isinstance(reason, DoesNotFit):
        for change in reason.changes(names):
            changed, _, text = change.partition("=")
            _put(values, changed.split("."), refused.value_of(text))
        return True
    if reason is not None:  # a value that is wrong in other ways than by its kind; its message begins with the key
        names += refused.first_word(problem).split(".")
    key = [name for name in names if not name.isdigit()]
    if problem["type"] == "missing" or not key:
        return False
    if problem["type"] == "union_tag_invalid":
        values["objective"] = {}
        return True
    left_out.add(key[-1])
    return _removed(values, key)


def _put(values: dict[str, Any], key: Sequence[str], value: Any) -> None:
    for name in key[:-1]:
        values = values.setdefault(name, {})
    values[key[-1]] = value


def _removed(values: Any, key: Sequence[str]) -> bool:
    for name in key[:-1]:
        values = values.get(name) if isinstance(values, dict) else None
    if not isinstance(values, dict) or key[-1] not in values:
        return False
    del values[key[-1]]
    return True
