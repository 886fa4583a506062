"""What to set in place of an override that was refused: the nearest value or key that is allowed, else nothing."""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from barlowctl import shell
from barlowctl.recipe.objectives import TAGS
from barlowctl.recipe.section import DoesNotFit

AS_A_SECTION = ("model_type", "model_attributes_type", "dict_type")
"""pydantic's names of a value in the place of a section."""
LIMITS = {"greater_than": "gt", "greater_than_equal": "ge", "less_than": "lt", "less_than_equal": "le"}
"""pydantic's names of a number beyond a limit -> of the limit."""


def nearest(problem: Any) -> float:
    """The allowed number that is nearest to one beyond a limit."""
    limit = problem["ctx"][LIMITS[problem["type"]]]
    match problem["type"], limit:
        case "greater_than", int():
            return limit + 1
        case "less_than", int():
            return limit - 1
        case "greater_than", _:
            return math.nextafter(limit, math.inf)
        case "less_than", _:
            return math.nextafter(limit, -math.inf)
    return float(limit) if isinstance(limit, float) else int(limit)


def fitting(problems: Sequence[Any], overridden: Mapping[str, str]) -> str | None:
    """The changes after which values fit together, where that they do not is all that is wrong."""
    changes = [changes_of(problem, overridden) for problem in problems]
    if not all(changes):
        return None
    return shell.line(*(word for of_one in changes for change in of_one for word in ("--set", change)))


def changes_of(problem: Any, overridden: Mapping[str, str]) -> tuple[str, ...]:
    """`key=value` of all changes that make values fit together; empty where the problem is another one."""
    reason = problem.get("ctx", {}).get("error")
    return reason.changes(place_of(problem), overridden) if isinstance(reason, DoesNotFit) else ()


def place_of(problem: Any) -> list[str]:
    """The names of the section or key that a problem is of, without which member of a union pydantic looked at."""
    names = [str(part) for part in problem["loc"]]
    if names[:1] == ["objective"] and names[1:2] and names[1] in TAGS:
        del names[1]
    of_an_argument = names[:2] == ["objective", "args"]  # which may be any union, or a table
    return names[:3] if of_an_argument else names


def first_word(problem: Any) -> str:
    """Of the message of a problem that is one of several keys, or of a value: the key."""
    return str(problem["msg"]).removeprefix("Value error, ").partition(" ")[0]


def value_of(text: str) -> Any:
    """What `--set KEY=TEXT` sets: TOML, or a bare word."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        return text.strip()  # --set optimizer.name=adamw


def advice(
    problems: Sequence[Any],
    lines: Sequence[str],
    overridden: Mapping[str, str],
    accepts: Callable[[Sequence[str]], bool],
) -> str | None:
    """Flags with which the recipe is one, tried before they are advised; None: it takes more than other overrides.

    Args:
        problems: pydantic's. lines: in words, one for each.
        overridden: by key, what was typed.
        accepts: whether a recipe with these overrides is valid.
    """
    changed, without, culprits = list[str](), list[str](), list[str]()
    for problem, line in zip(problems, lines, strict=True):
        if of_several := changes_of(problem, overridden):
            changed += of_several
            continue
        key = _culprit(problem, overridden)
        change = _instead(problem, line, key, overridden)
        culprits += [] if key is None else [key]
        if change:
            changed.append(change)
        if key is not None and (not change or change.partition("=")[0] != key):
            without.append(key)
    valid = [override for key, override in overridden.items() if key not in culprits]
    useful = [change for change in changed if accepts([*valid, change])]
    fewer = [*([key] for key in reversed(list(overridden))), list(overridden)]
    for changes, dropped in [(changed, without), (useful, culprits), *((list[str](), keys) for keys in fewer)]:
        replaced = {change.partition("=")[0] for change in changes} | set(dropped)
        remaining = [override for key, override in overridden.items() if key not in replaced]
        if (changes or dropped) and accepts([*remaining, *changes]):
            left_out = [f"--set={overridden[key]}" for key in dict.fromkeys(dropped)]
            words = [word for change in changes for word in ("--set", change)]
            return shell.line(*words, *(["without", *left_out] if left_out else []))
    return None


def _culprit(problem: Any, overridden: Mapping[str, str]) -> str | None:
    """The overridden key that a problem is of, or that holds or lies in what it is of."""
    names = [str(part) for part in problem["loc"]]
    if problem["type"] == "union_tag_invalid":
        names.append("name")
    if problem["type"] == "value_error":
        names += first_word(problem).split(".")
    for key in overridden:
        parts = key.split(".")
        if parts in (names[: len(parts)], [*names[:1], *names[2:]][: len(parts)]):  # objective.METHOD.key
            return key
        if problem["type"] == "extra_forbidden" and parts[: len(names)] == names:  # of a section that there is not
            return key
    return None


def _instead(problem: Any, line: str, key: str | None, overridden: Mapping[str, str]) -> str | None:
    """`key=value` in place of an overridden key: of what the words propose, else the limit that it is beyond."""
    if key is None:
        return None
    proposed = re.search(r", did you mean '([^']+)'\?", line)
    if proposed and problem["type"] in ("extra_forbidden", *AS_A_SECTION):
        inside = key.removeprefix(".".join(place_of(problem)))  # optimzer.lr: optimizer.lr
        return f"{proposed[1]}{inside}={overridden[key].partition('=')[2].strip()}"
    if proposed:
        return f"{key}={proposed[1]}"
    if problem["type"] not in LIMITS or problem["loc"][-1] != key.rpartition(".")[2]:  # or it is of an item of a list
        return None
    limit = nearest(problem)
    useful = limit == int(limit) and abs(limit) <= 10_000  # not the least number above 0, or two billion epochs
    return f"{key}={limit}" if useful else None
