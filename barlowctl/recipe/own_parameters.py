"""Parameters of what somebody registers, which keys of a recipe are made of, and its name there. No torch."""

from __future__ import annotations

import functools
import inspect
import operator
import re
import types
import typing
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import pydantic
from pydantic import SerializerFunctionWrapHandler, create_model, model_serializer

from barlowctl import own_code
from barlowctl.errors import UserError
from barlowctl.recipe.section import Section

Field = tuple[Any, Any]
"""The type of a key, and its default or pydantic's field."""
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")
_PLAIN = (bool, int, float, str, list, tuple, dict)


class Arguments(Section):
    """What a recipe says to a registered part. A value that is None is not written: TOML has none."""

    @model_serializer(mode="wrap")
    def _without_none(self, values: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {key: value for key, value in values(self).items() if value is not None}


def check_name(
    kind: str, name: Any, make: Callable[..., Any], ours: Sequence[str], before: Callable[..., Any] | None
) -> None:
    """Refuse a name that cannot be, one of barlowctl's own, or one of another class or function.

    Args:
        kind: "method" or "optimizer". before: what is registered under the name.

    Raises:
        UserError: says which.
    """
    place, one = own_code.line_of(make), f"{'an' if kind[0] in 'aeiou' else 'a'} {kind}"
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise UserError(
            f"{one} is registered as {name!r}{place}",
            allowed=f"small letters, digits, dots, dashes and underscores: @barlowctl.register_{kind}('my-{kind}')",
            next="correct the name",
        )
    if name in ours:
        raise UserError(
            f"{name!r} is {one} of barlowctl's own, and cannot be registered{place}",
            allowed=f"any name but {', '.join(ours)}",
            next="correct the name",
        )
    if before is not None and _called(before) != _called(make):
        raise UserError(
            f"{name!r} is registered twice: {_called(before)}{own_code.line_of(before)}; and {_called(make)}{place}",
            allowed="one class or function of a name; the same one again, as in a notebook's cell, takes its own place",
            next="correct the name",
        )


def _called(make: Any) -> str:
    return f"{make.__module__}.{make.__qualname__}"


def parameters_of(
    what: str,
    make: Callable[..., Any],
    given: Collection[str],
    section: str,
    parameters: Sequence[inspect.Parameter] | None = None,
) -> tuple[tuple[str, ...], dict[str, Field]]:
    """The parameters that are given, and those that are keys of a section: type and field of each.

    Args:
        what: "the method 'mine'". given: names of parameters that are given. section: of the others.
        parameters: those that are read; None: all of them.

    Raises:
        UserError: parameters without a name.
    """
    place = own_code.line_of(make)
    names: list[str] = []
    keys: dict[str, Field] = {}
    hints = hints_of(make)
    for parameter in inspect.signature(make).parameters.values() if parameters is None else parameters:
        if (options := _named_options(parameter, hints)) is not None:
            names += [option for option in options if option in given]
            keys |= {option: field for option, field in options.items() if option not in given}
            continue
        stars = "**" if parameter.kind is parameter.VAR_KEYWORD else "*" * (parameter.kind is parameter.VAR_POSITIONAL)
        if stars or parameter.kind is parameter.POSITIONAL_ONLY:
            why = f": a mistyped key of {section} would be swallowed" if stars == "**" else ", which has no name"
            raise UserError(
                f"{what} takes {stars}{parameter.name}{why}{place}",
                allowed=f"parameters by their names: {', '.join(given)}, which are given, and keys of {section}",
                next="name what it takes, each by itself",
            )
        if parameter.name in given:
            names.append(parameter.name)
        elif _is_settable(parameter):
            keys[parameter.name] = field_of(parameter, hints)
    return tuple(names), keys


def hints_of(make: Callable[..., Any]) -> dict[str, Any]:
    """The types of parameters, as far as Python can read them."""
    function: Any = make
    try:
        return typing.get_type_hints(function.__init__ if isinstance(make, type) else make, include_extras=True)
    except Exception:  # names that are imported for a type checker alone, or whatever else stands there
        return {}


def _named_options(parameter: inspect.Parameter, hints: Mapping[str, Any]) -> dict[str, Field] | None:
    """The keys of `**options: Unpack[Options]`, where that is a `TypedDict`; one that is not required may be None."""
    hint = hints.get(parameter.name)
    if parameter.kind is not parameter.VAR_KEYWORD or typing.get_origin(hint) is not typing.Unpack:
        return None
    (options,) = typing.get_args(hint)
    plain, marked = typing.get_type_hints(options), typing.get_type_hints(options, include_extras=True)
    marks = {name: typing.get_origin(of_type) for name, of_type in marked.items()}
    required = {
        name
        for name, mark in marks.items()
        if mark is typing.Required or (mark is not typing.NotRequired and name in options.__required_keys__)
    }
    return {name: (of_type, ...) if name in required else (of_type | None, None) for name, of_type in plain.items()}


def _is_settable(parameter: inspect.Parameter) -> bool:
    """Whether a recipe can set a parameter: not one whose default is a function, or anything else that TOML has not."""
    return parameter.default in (parameter.empty, None) or isinstance(parameter.default, _PLAIN)


def field_of(parameter: inspect.Parameter, hints: Mapping[str, Any]) -> Field:
    """The type of a key and its field: as it is annotated, where that is one of plain values and takes the default."""
    default = ... if parameter.default is parameter.empty else parameter.default
    of_default = _kind_of(default)
    hint = hints.get(parameter.name, of_default)
    kinds = (hint, _without_tensors(hint), of_default)
    return next((field for of_type in kinds if can_be(parameter.name, field := (of_type, default))), (Any, default))


def _without_tensors(hint: Any) -> Any:
    """A type without what no file has, as torch annotates rates: `float | Tensor` is `float`."""
    parts = typing.get_args(hint)
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        plain = [_without_tensors(part) for part in parts if not _is_foreign(part)]
        return functools.reduce(operator.or_, plain) if plain else hint
    if typing.get_origin(hint) is tuple:
        return types.GenericAlias(tuple, tuple(map(_without_tensors, parts)))
    return hint


def _is_foreign(part: Any) -> bool:
    """Whether a type is a class of neither plain values nor none."""
    return isinstance(part, type) and not typing.get_origin(part) and part not in (*_PLAIN, type(None))


def section_of(keys: Mapping[str, Field]) -> Field:
    """The section `args` of such keys, and its default: none where a key is required."""
    arguments = arguments_of(keys)
    required = any(info.is_required() for info in arguments.model_fields.values())
    return (arguments, ... if required else pydantic.Field(default_factory=arguments))


def arguments_of(fields: Mapping[str, Field]) -> type[Arguments]:
    """The section of such keys."""
    typed: dict[str, Any] = dict(fields)
    return create_model("Arguments", __base__=Arguments, **typed)


def can_be(name: str, field: Field) -> bool:
    """Whether values of a type are read from a recipe and described, and its default is one."""
    try:
        section = arguments_of({name: field})
        section.model_json_schema()
        if field[1] is not ...:
            section()
    except Exception:  # pydantic's, of kinds that differ between its versions
        return False
    return True


def _kind_of(default: Any) -> Any:
    """The type of a key that is not annotated: its default's, of a number any number, else any."""
    if isinstance(default, bool):
        return bool
    if isinstance(default, int | float):
        return int | float
    return type(default) if isinstance(default, str) else Any
