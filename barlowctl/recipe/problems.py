"""What is wrong with a recipe, in words: pydantic's problems with the file and line, or the override, they are in."""

from __future__ import annotations

import re
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Annotated, Any

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from barlowctl.errors import did_you_mean, nearest
from barlowctl.recipe import objectives, optimizers
from barlowctl.recipe.allowed import allowed
from barlowctl.recipe.other_words import key_meant, key_of_section
from barlowctl.recipe.refused import place_of
from barlowctl.recipe.schema import Recipe
from barlowctl.recipe.section import Section

Chosen = Mapping[str, type[Section]]
"""The keys of what a recipe chooses by its name: of `objective`, the method's; of `optimizer`, the optimizer's."""
_REGISTERED = "; one of your own is registered first (docs/python.md: Parts of your own)"


@dataclass
class Origin:
    """Where values came from, so that an error can name the file and line or the override.

    example: a shipped recipe that shows how it is done. typed: whether overrides are those of a command line.
    """

    file: str
    text: str
    example: str = "quickstart"
    overridden: dict[str, str] = field(default_factory=dict)
    typed: bool = False

    def of(self, key: str) -> str:
        """Where a dotted key was set, for people."""
        for overridden, override in self.overridden.items():
            if key == overridden or key.startswith(overridden + ".") or overridden.startswith(key + "."):
                return f"--set {override}"
        return self._in_file(key)

    def of_named(self, section: str, message: str) -> str:
        """Where the keys of a section that a message names were set, for people; `section`: "" for the recipe."""
        prefix = f"{section}." if section else ""
        named = [
            override
            for key, override in self.overridden.items()
            if f"{section}.".startswith(f"{key}.")  # the section as a whole, or what it is in
            or (key.startswith(prefix) and _names(message, key.removeprefix(prefix)))
        ]
        return ", ".join(f"--set {override}" for override in named) or self._in_file(section)

    def _in_file(self, key: str) -> str:
        line = _line_of(self.text, key)
        return f"{self.file}, line {line}" if line else self.file


def _names(message: str, key: str) -> bool:
    """Whether a message names a key: `epochs` by itself or in `5 epochs`, and as `1 epoch` too."""
    counted = rf"|\b1 {re.escape(key.removesuffix('s'))}\b" if key.endswith("s") else ""
    return bool(re.search(rf"(?<![\w.]){re.escape(key)}\b{counted}", message))


def _line_of(text: str, key: str) -> int | None:
    """The line on which TOML text sets a dotted key, or opens the table it belongs to."""
    parts = key.split(".")
    table: list[str] = []
    for number, line in enumerate(text.splitlines(), start=1):
        if header := re.match(r"\s*\[\s*([^\[\]]+?)\s*\]", line):
            table = [part.strip().strip("\"'") for part in header.group(1).split(".")]
            if table == parts:
                return number
        elif setting := re.match(r"\s*([\w.\"'-]+)\s*=", line):
            here = table + [part.strip("\"'") for part in setting.group(1).split(".")]
            if here == parts[: len(here)]:
                return number
    return None


def distinct(problems: Sequence[Any]) -> list[Any]:
    """pydantic's problems without those that follow from others: of a list whose items are wrong, that it is short."""
    inside = {problem["loc"][:-1] for problem in problems}
    return [problem for problem in problems if problem["type"] != "too_short" or problem["loc"] not in inside]


def explain(problem: Any, origin: Origin, chosen: Chosen) -> str:
    """One line for one of pydantic's problems: where, what was given, what is allowed. chosen: see `Chosen`."""
    names = place_of(problem)
    key = ".".join(name for name in names if not name.isdigit())
    where = f"{origin.of(key)}: "
    value = problem.get("input")
    match problem["type"]:
        case "extra_forbidden":
            section = _section(names[:-1], chosen)
            keys = list(section.model_fields) if section else []
            parent = ".".join(names[:-1])
            hint = (
                _meant(names[-1], chosen) or _nearest(names[-1], keys, parent) or _nearest_anywhere(names[-1], chosen)
            )
            if f"{parent}.args.{names[-1]}" in schema_keys(**chosen):
                hint = f", did you mean '{parent}.args.{names[-1]}'?"
            elif parent == "objective" and (owners := _methods_with(names[-1])):
                hint = f" of {chosen['objective'].model_fields['name'].default}: it is one of {', '.join(owners)}."
            return f"{where}unknown key '{key}'{hint} Allowed in {parent or 'a recipe'}: {', '.join(keys)}."
        case "missing" if not names[-1].isdigit():
            return f"{where}'{key}' is missing."
        case "union_tag_invalid":
            name = value.get("name") if isinstance(value, dict) else value
            near = did_you_mean(str(name), objectives.METHODS)
            choices = ", ".join(map(repr, objectives.METHODS)) + _REGISTERED
            return f"{origin.of('objective.name')}: objective.name is {_in_toml(name)}{near or '.'} Allowed: {choices}."
        case "literal_error":
            choices = (
                problem["ctx"]["expected"] if len(names) == len(key.split(".")) else _allowed(names, chosen, value)
            )
            near = (
                did_you_mean(str(value), re.findall(r"['\"]([^'\"]+)['\"]", choices)) if isinstance(value, str) else ""
            )
            if key == "optimizer.name":
                near = did_you_mean(str(value), (*optimizers.OURS, *optimizers.REGISTERED))
                choices = ", ".join(map(repr, (*optimizers.OURS, *optimizers.REGISTERED))) + _REGISTERED
            return f"{where}{key} is {_in_toml(value)}{near or '.'} Allowed: {choices}."
        case "value_error":
            message = problem["msg"].removeprefix("Value error, ")
            section = _section(names, chosen)
            is_named = section is not None and message.partition(" ")[0] in section.model_fields
            return f"{origin.of_named(key, message)}: {f'{key}.' if is_named and names else ''}{message}."
        case "model_type" | "model_attributes_type" | "dict_type":
            meant = key_of_section(key) if isinstance(value, str) else None
            hint = f", did you mean '{meant}'?" if meant else "."
            return f"{where}{key} is {_in_toml(value)}{hint} Allowed: a section with keys of its own, as in [{key}]."
        case _:
            in_list = isinstance(problem["loc"][-1], int) and problem["type"] != "missing"
            place = f"[{names[-1]}]" if in_list else ""
            return f"{where}{key}{place} is {_in_toml(value)}. Allowed: {_allowed(names, chosen, value)}."


def _in_toml(value: Any) -> str:
    """A value as people type it: `true`, not Python's `True`."""
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_in_toml, value))}]"
    return str(value).lower() if isinstance(value, bool) else repr(value)


def _allowed(names: Sequence[str], chosen: Chosen, value: Any) -> str:
    """Which values the key has that pydantic names, with an example where a list is not one, or what its text says."""
    key = [name for name in names if not name.isdigit()]
    section = _section(key[:-1], chosen)
    assert section is not None, f"{names} is a key"
    words = allowed(_properties(section)[key[-1]], quoted=str)
    info = section.model_fields[key[-1]]
    if words == "text" and info.description:
        return f"text: {info.description}"
    if words.startswith("a list") and not isinstance(value, list | tuple) and len(names) == len(key):
        if isinstance(value, str) and value.startswith("["):
            return f"{words} (TOML: a digit before the point, quotes around text: [0.5, 1.0], ['a', 'b'])"
        return words + _as_list(info, value)
    return words


@cache
def _properties(section: type[Section]) -> Mapping[str, Any]:
    """Of a section's JSON schema, which takes pydantic 20 milliseconds."""
    properties: dict[str, Any] = section.model_json_schema()["properties"]
    return properties


def _as_list(info: FieldInfo, value: Any) -> str:
    """`, e.g. [256]` where a list of this value alone is one that the key takes."""
    annotation: Any = Annotated[info.annotation, *info.metadata] if info.metadata else info.annotation
    if isinstance(value, bool):  # see `Section`
        return ""
    try:
        TypeAdapter(annotation).validate_python([value])
    except ValidationError:
        return ""
    return f", e.g. [{_in_toml(value)}]"


def _methods_with(key: str) -> list[str]:
    """The names of the methods that have a key."""
    return [name for name, keys in objectives.METHODS.items() if key in keys.model_fields]


def _section(names: Sequence[str], chosen: Chosen) -> type[BaseModel] | None:
    section: Any = Recipe
    for name in names:
        info = section.model_fields.get(name)
        section = chosen[name] if section is Recipe and name in chosen else info.annotation if info else None
        if not (isinstance(section, type) and issubclass(section, BaseModel)):
            return None
    return section


def _meant(name: str, chosen: Chosen) -> str:
    """A hint at the key that other tools call so."""
    meant = key_meant(name, schema_keys(**chosen))
    return f", did you mean '{meant}'?" if meant else ""


def _nearest(name: str, keys: Sequence[str], parent: str) -> str:
    """A hint at the nearest key of the same section, in full."""
    near = nearest(name, keys, cutoff=0.6)
    return f", did you mean '{parent}.{near}'?".replace("'.", "'") if near else ""


def _nearest_anywhere(name: str, chosen: Chosen) -> str:
    """A hint when a key exists, or nearly, in another section."""
    keys = {key.rpartition(".")[2]: key for key in schema_keys(**chosen)}
    near = nearest(name, keys, cutoff=0.7)
    return f", did you mean '{keys[near]}'?" if near else "."


def schema_keys(
    objective: type[Section] = objectives.BarlowTwins, optimizer: type[Section] = optimizers.Optimizer
) -> Iterator[str]:
    """Every dotted key that a recipe of a method and an optimizer can set."""
    yield from _keys(Recipe, "", {"objective": objective, "optimizer": optimizer})


def _keys(section: type[BaseModel], prefix: str, chosen: Chosen) -> Iterator[str]:
    for name, info in section.model_fields.items():
        inner = chosen[name] if section is Recipe and name in chosen else info.annotation
        if isinstance(inner, type) and not typing.get_origin(inner) and issubclass(inner, BaseModel):
            yield from _keys(inner, f"{prefix}{name}.", chosen)
        else:
            yield prefix + name
