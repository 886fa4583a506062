"""Values of a protocol that `--set` names: read as TOML has them, refused all at once under what was typed."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from barlowctl import shell
from barlowctl.errors import UserError, did_you_mean, nearest
from barlowctl.recipe.allowed import allowed

PREPARING = ("eval.", "data.range=", "data.background=", "data.bands=", "model.", "views.")
"""How overrides begin that change how images are prepared and features are pooled, where something is measured; and
what is said so of weights that do not say it themselves."""


@dataclass(frozen=True)
class Wrong:
    """What is refused of what was typed.

    text: as it was typed, with what is wrong.    allowed: in its place; "": nothing is.
    left_out: words after `without` that leave it out.    instead: the override to type in its place; "": none is near.
    """

    text: str
    allowed: str
    left_out: tuple[str, ...]
    instead: str = ""


def left_out(override: str) -> tuple[str, ...]:
    """What leaves an override out, after `without`; a network's name may have been typed as `--backbone`."""
    named = override.partition("=")[0].strip() == "model.backbone"
    return (*(["--backbone"] if named else []), f"--set={override}")


def without(overrides: Sequence[str]) -> str:
    """Advice to leave overrides out."""
    first, *others = (word for override in overrides for word in left_out(override))
    return shell.line("without", first, *others)


def as_typed(overrides: Sequence[str]) -> str:
    """Overrides as flags."""
    return shell.line(*(word for override in overrides for word in ("--set", override)))


def changing(overrides: Sequence[str]) -> str:
    """Overrides as flags, and the verb: `--set a=1 changes`, `--set a=1 --set b=2 change`."""
    return f"{as_typed(overrides)} {'changes' if len(overrides) == 1 else 'change'}"


def refused(wrong: Sequence[Wrong]) -> UserError:
    """One error that names all that is wrong; the next command is without any of it."""
    everywhere = {one.allowed for one in wrong}
    each = [f"{one.text}. Allowed: {one.allowed}" if len(everywhere) > 1 and one.allowed else one.text for one in wrong]
    first, *others = dict.fromkeys(word for one in wrong for word in one.left_out)
    leave_out = shell.line("without", first, *others)
    instead = [one.instead for one in wrong if one.instead]
    more = [word for override in instead[1:] for word in ("--set", override)]
    return UserError(
        "\n".join(each),
        allowed=(everywhere.pop() or None) if len(everywhere) == 1 else None,
        next=f"{shell.line('--set', instead[0], *more)} {leave_out}" if instead else leave_out,
    )


def read(
    overrides: Sequence[str], keys: Sequence[str], *, what: str, beside: Sequence[str] = ()
) -> tuple[dict[str, Any], list[Wrong]]:
    """Values by key, a word as it is; and the overrides that have none of the keys, or no value.

    `what`: whose values these are; `beside`: keys that are read elsewhere.
    """
    values, unknown = dict[str, Any](), list[Wrong]()
    for text in overrides:
        key, equals, value = (part.strip() for part in text.partition("="))
        if not equals or key not in keys:
            ends = [name for name in beside if name.rpartition(".")[2] == key]  # resize: eval.resize
            candidates = ends or [*keys, *beside]
            near = nearest(key, candidates)
            unknown.append(
                Wrong(
                    f"--set {text}: unknown {what} value '{key}'{did_you_mean(key, candidates)}",
                    ", ".join(keys) + (f"; and {', '.join(beside)}" if beside else ""),
                    left_out(text),
                    f"{near}={text.partition('=')[2]}" if near and text.partition("=")[2] else "",
                )
            )
            continue
        try:
            values[key] = tomllib.loads(f"value = {value}")["value"]
        except (ValueError, RecursionError):
            values[key] = value
    return values, unknown


def typed(key: str, overrides: Sequence[str]) -> str | None:
    """The override that gave a key its value, as it was typed: the last one; None: none did."""
    texts = [text for text in overrides if text.partition("=")[0].strip() == key]
    return texts[-1] if texts else None


def not_allowed(error: ValidationError, overrides: Sequence[str], values: Mapping[str, Any]) -> list[Wrong]:
    """The overrides whose values are refused, each once, with what is allowed in their place."""
    wrong: dict[str, Wrong] = {}
    for problem in error.errors():
        key = str(problem["loc"][0]) if problem["loc"] else ""
        if (text := typed(key, overrides)) is not None:
            wrong.setdefault(key, Wrong(f"--set {text}", allowed_instead(problem, values), left_out(text)))
    return list(wrong.values())


def allowed_instead(problem: Any, values: Mapping[str, Any]) -> str:
    """What is allowed in place of a value that is not, in the words of a recipe's errors.

    Args:
        problem: one of pydantic's. values: by key, what a JSON schema has of them.
    """
    if problem["type"] == "value_error":
        return str(problem["msg"]).removeprefix("Value error, ")
    return allowed(values[str(problem["loc"][0])], quoted=str)
