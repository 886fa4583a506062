"""Values of a protocol that `--set` names: read as TOML has them, refused under what was typed."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from barlowctl import shell
from barlowctl.errors import UserError, did_you_mean, nearest
from barlowctl.recipe.allowed import allowed


def read(overrides: Sequence[str], keys: Sequence[str], *, what: str, beside: Sequence[str] = ()) -> dict[str, Any]:
    """Values by key; a word as it is. `what`: whose values these are; `beside`: keys that are read elsewhere.

    Raises:
        UserError: a key that is none, or no value.
    """
    values: dict[str, Any] = {}
    for text in overrides:
        key, equals, value = (part.strip() for part in text.partition("="))
        if not equals or key not in keys:
            ends = [name for name in beside if name.rpartition(".")[2] == key]  # resize: eval.resize
            candidates = ends or [*keys, *beside]
            raise UserError(
                f"--set {text}: unknown {what} value '{key}'{did_you_mean(key, candidates)}",
                allowed=", ".join(keys) + (f"; and {', '.join(beside)}" if beside else ""),
                next=_nearest(text, candidates),
            )
        try:
            values[key] = tomllib.loads(f"value = {value}")["value"]
        except (ValueError, RecursionError):
            values[key] = value
    return values


def typed(key: str, overrides: Sequence[str]) -> str | None:
    """The override that gave a key its value, as it was typed: the last one; None: none did."""
    texts = [text for text in overrides if text.partition("=")[0].strip() == key]
    return texts[-1] if texts else None


def allowed_instead(error: ValidationError, values: Mapping[str, Any]) -> str:
    """What is allowed in place of the first value that is not, in the words of a recipe's errors.

    Args:
        values: by key, what a JSON schema has of them.
    """
    first = error.errors()[0]
    if first["type"] == "value_error":
        return first["msg"].removeprefix("Value error, ")
    return allowed(values[str(first["loc"][0])], quoted=str)


def refused(text: str, instead: str) -> UserError:
    """An override whose value is not allowed."""
    return UserError(f"--set {text}", allowed=instead, next=shell.line("without", f"--set={text}"))


def _nearest(text: str, keys: Sequence[str]) -> str:
    """The same with the nearest key that there is, else without it."""
    key, _, value = text.partition("=")
    without = shell.line("without", f"--set={text}")
    near = nearest(key.strip(), keys)
    return f"{shell.line('--set', f'{near}={value}')} {without}" if near and value else without
