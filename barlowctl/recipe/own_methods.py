"""Methods that somebody registers: their keys, made of the parameters of a class or function. No torch."""

from __future__ import annotations

import inspect
import re
import typing
from collections.abc import Callable, Mapping
from typing import Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, create_model, model_serializer

from barlowctl import own_code
from barlowctl.errors import UserError
from barlowctl.recipe.keys import Own
from barlowctl.recipe.objectives import METHODS, OURS
from barlowctl.recipe.section import Section

GIVEN = ("backbone", "projector", "predictor", "features", "seed", "ranks", "images", "classes")
"""Parameters that are given by their names; every other one is a key of `objective.args`."""
FLAGS = ("small_views", "labels", "averages", "decorrelates")
"""Attributes of a method's class that are true or false; without them they are false."""
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")
_PLAIN = (bool, int, float, str, list, tuple, dict)
_Field = tuple[Any, Any]


class Arguments(Section):
    """What a recipe says to a registered method. A value that is None is not written: TOML has none."""

    @model_serializer(mode="wrap")
    def _without_none(self, values: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {key: value for key, value in values(self).items() if value is not None}


def register(name: Any, make: Callable[..., Any], attributes: Mapping[str, Any]) -> None:
    """Let recipes name a method; the same class or function again takes the place of what it was.

    Args:
        make: the class, or the function that returns a method. attributes: of the class, as far as it says any:
            `title`, `views` and `FLAGS`.

    Raises:
        UserError: a name or a parameter that cannot be, a name of another method, or attributes of the wrong kind.
    """
    _check_name(name, make)
    of_class = _attributes(name, make, attributes)
    given, keys = _parameters(name, make)
    arguments = _arguments(keys)
    required = any(info.is_required() for info in arguments.model_fields.values())
    fields: dict[str, Any] = {
        "name": (Literal[name], name),
        "args": (arguments, ... if required else Field(default_factory=arguments)),
    }
    own = create_model("Own", __base__=Own, **fields)
    own.make, own.given, own.plain = make, given, tuple(keys)
    own.source = own_code.source_of(make)
    for key, value in of_class.items():
        setattr(own, key, value)
    METHODS[name] = own


def _check_name(name: Any, make: Callable[..., Any]) -> None:
    place = own_code.line_of(make)
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise UserError(
            f"a method is registered as {name!r}{place}",
            allowed="small letters, digits, dots, dashes and underscores: @barlowctl.register_method('my-method')",
            next="correct the name",
        )
    if name in OURS:
        raise UserError(
            f"{name!r} is a method of barlowctl's own, and cannot be registered{place}",
            allowed=f"any name but {', '.join(OURS)}",
            next="correct the name",
        )
    before = METHODS.get(name)
    if before is not None and issubclass(before, Own) and _called(before.make) != _called(make):
        raise UserError(
            f"{name!r} is registered twice: {_called(before.make)}{own_code.line_of(before.make)}; and "
            f"{_called(make)}{place}",
            allowed="one class or function of a name; the same one again, as in a notebook's cell, takes its own place",
            next="correct the name",
        )


def _called(make: Any) -> str:
    return f"{make.__module__}.{make.__qualname__}"


def _attributes(name: str, make: Callable[..., Any], attributes: Mapping[str, Any]) -> dict[str, Any]:
    """What keys of a method say beside their values (`Keys`), of the attributes of its class.

    Raises:
        UserError: of the wrong kind.
    """
    views, title = attributes.get("views", 2), attributes.get("title", name)
    wrong = [f"{flag} = {attributes[flag]!r}" for flag in FLAGS if not isinstance(attributes.get(flag, False), bool)]
    wrong += [f"views = {views!r}"] if views not in (1, 2) or isinstance(views, bool) else []
    wrong += [f"title = {title!r}"] if not isinstance(title, str) or not title.strip() else []
    wrong += ["patches = True"] if attributes.get("patches") else []
    if wrong:
        raise UserError(
            f"the method {name!r} has {', '.join(wrong)}{own_code.line_of(make)}",
            allowed="views 1 or 2 (large views of each image; more of them are small: small_views = True), title a "
            f"text, {', '.join(FLAGS)} True or False; shuffled patches are PIRL's alone",
            next="correct the class",
        )
    return {"full_views": views, "title": title, **{flag: attributes.get(flag, False) for flag in FLAGS}}


def _parameters(name: str, make: Callable[..., Any]) -> tuple[tuple[str, ...], dict[str, _Field]]:
    """The parameters that are given, and the keys of `objective.args`: type and field of each.

    Raises:
        UserError: parameters without a name, or no backbone.
    """
    place = own_code.line_of(make)
    given: list[str] = []
    keys: dict[str, _Field] = {}
    hints = _hints(make)
    for parameter in inspect.signature(make).parameters.values():
        if (options := _named_options(parameter, hints)) is not None:
            given += [option for option in options if option in GIVEN]
            keys |= {option: field for option, field in options.items() if option not in GIVEN}
            continue
        stars = "**" if parameter.kind is parameter.VAR_KEYWORD else "*" * (parameter.kind is parameter.VAR_POSITIONAL)
        if stars or parameter.kind is parameter.POSITIONAL_ONLY:
            why = ": a mistyped key of objective.args would be swallowed" if stars == "**" else ", which has no name"
            raise UserError(
                f"the method {name!r} takes {stars}{parameter.name}{why}{place}",
                allowed=f"parameters by their names: {', '.join(GIVEN)}, which are given, and keys of objective.args",
                next="name what it takes, each by itself",
            )
        if parameter.name in GIVEN:
            given.append(parameter.name)
        elif _is_settable(parameter):
            keys[parameter.name] = _field(parameter, hints)
    if "backbone" not in given:
        raise UserError(
            f"the method {name!r} takes no backbone{place}",
            allowed="a parameter named backbone, a network from images (N, C, H, W) to features (N, F)",
            next="let it take backbone, and keep it as self.backbone",
        )
    return tuple(given), keys


def _hints(make: Callable[..., Any]) -> dict[str, Any]:
    """The types of parameters, as far as Python can read them."""
    function: Any = make
    try:
        return typing.get_type_hints(function.__init__ if isinstance(make, type) else make, include_extras=True)
    except Exception:  # names that are imported for a type checker alone, or whatever else stands there
        return {}


def _named_options(parameter: inspect.Parameter, hints: Mapping[str, Any]) -> dict[str, _Field] | None:
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


def _field(parameter: inspect.Parameter, hints: Mapping[str, Any]) -> _Field:
    """The type of a key and its field: as it is annotated, where that is one of plain values and takes the default."""
    default = ... if parameter.default is parameter.empty else parameter.default
    of_default = _kind_of(default)
    types = (hints.get(parameter.name, of_default), of_default)
    return next((field for of_type in types if _can_be(parameter.name, field := (of_type, default))), (Any, default))


def _arguments(fields: Mapping[str, _Field]) -> type[Arguments]:
    """The section of such keys."""
    typed: dict[str, Any] = dict(fields)
    return create_model("Arguments", __base__=Arguments, **typed)


def _can_be(name: str, field: _Field) -> bool:
    """Whether values of a type are read from a recipe and described, and its default is one."""
    try:
        section = _arguments({name: field})
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
