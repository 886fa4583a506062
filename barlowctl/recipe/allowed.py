"""Which values a key of a recipe takes, in words, read from its schema: for errors and for the reference of keys."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

LISTS = {2: "a list of two, each ", "some": "a list of one or more, each ", "any": "a list, each "}


NONE = {"type": "null"}


def allowed(value: Mapping[str, Any], *, quoted: Callable[[str], str], endless: float | None = None) -> str:
    """In words.

    Args:
        value: what the JSON schema has of the key. quoted: marks text that is to be typed as it is.
        endless: an upper end from which on none is named; None: each is.
    """
    if choices := value.get("enum") or ([value["const"]] if "const" in value else []):
        return ", ".join(quoted(json.dumps(choice)) for choice in choices)
    if "oneOf" in value:
        return " or ".join(allowed(choice, quoted=quoted, endless=endless) for choice in value["oneOf"])
    if "anyOf" in value:  # arguments of registered methods alone: a value or none, a number of any kind
        kinds = [allowed(choice, quoted=quoted, endless=endless) for choice in value["anyOf"] if choice != NONE]
        return " or ".join(dict.fromkeys(kind for kind in kinds if kind != "a whole number" or "a number" not in kinds))
    match value.get("type"):
        case None:
            return "any value"
        case "boolean":
            return f"{quoted('true')} or {quoted('false')}"
        case "string":
            return f"text that matches {quoted(value['pattern'])}" if "pattern" in value else "text"
        case "object" if "properties" in value:
            parts = value["properties"]  # of one kind, as the numbers for training and for testing are
            each = allowed(next(iter(parts.values())), quoted=quoted, endless=endless)
            return f"a table {{{', '.join(f'{name} = ...' for name in parts)}}}, each {each}"
        case "object":
            return "a table"
        case "array":
            items = value["prefixItems"][0] if "prefixItems" in value else value["items"]
            least, most = value.get("minItems", 0), value.get("maxItems")
            size = most if most == least else "some" if least else "any"
            many = (
                f"a list of at most {most}, each "
                if most and most != least
                else LISTS.get(size, f"a list of {size}, each ")
            )
            return many + allowed(items, quoted=quoted, endless=endless)
        case kind:
            return f"{'a whole number' if kind == 'integer' else 'a number'}{_bounds(value, endless)}"


def _bounds(value: Mapping[str, Any], endless: float | None) -> str:
    """Where a number begins and ends."""
    low, above = value.get("minimum"), value.get("exclusiveMinimum")
    high, below = value.get("maximum"), value.get("exclusiveMaximum")
    start = f"from {_plain(low)}" if low is not None else f"above {_plain(above)}" if above is not None else ""
    end = f"to {_plain(high)}" if high is not None else f"below {_plain(below)}" if below is not None else ""
    if endless is not None and max(high or 0, below or 0) >= endless:
        return f" {start} on"
    return "".join(f" {part}" for part in (start, end) if part)


def _plain(number: float) -> str:
    return f"{number:,}" if isinstance(number, int) else f"{number:,.12g}"
