"""Arguments of the wrong kind, refused before anything else happens: what was given, and what is taken."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from numbers import Integral, Real
from os import PathLike
from types import NoneType, UnionType
from typing import Any, Literal, ParamSpec, TypeVar, Union, get_args, get_origin, get_type_hints

from barlowctl.api.options import HasItems
from barlowctl.api.unknown import missing_arguments, surplus_arguments, unknown_argument, wrong_kind
from barlowctl.api.wording import reworded
from barlowctl.errors import UserError

P = ParamSpec("P")
R = TypeVar("R")

_IN_MEMORY = "images in memory: a data set, a list, arrays and labels"
_NUMBERS = {int: Integral, float: Real}
_WORDS: dict[Any, str] = {
    NoneType: "None", str: "a string", bool: "True or False", int: "a whole number", float: "a number",
    PathLike: "a path", Mapping: "a dictionary", Callable: "a function", HasItems: _IN_MEMORY, Iterable: _IN_MEMORY,
}  # fmt: skip
_NO_ARGUMENTS = ("self", "return")


def checked(function: Callable[P, R]) -> Callable[P, R]:
    """The function, which refuses arguments that its annotations do not allow (and those of an unpacked TypedDict).

    Values are not looked into further than that: what a name or a number may be is said where it is used.

    Raises:
        UserError: when it is called: an argument of the wrong kind.
    """
    signature = inspect.signature(function)

    @functools.wraps(function)
    def call(*arguments: P.args, **options: P.kwargs) -> R:
        hints = _hints(function)
        with reworded():
            _refuse_unknown(function, signature, hints, arguments, options)
        try:
            bound = signature.bind_partial(*arguments, **options).arguments
        except TypeError:  # of one that is given twice, which Python says, in the name of the function
            return function(*arguments, **options)
        with reworded():
            given = {name: value for name, value in bound.items() if name not in ("self", "options")}
            given |= bound.get("options", {})
            for name, value in given.items():
                if name in hints and not _fits(value, hints[name]):
                    where, wrong = _unfit(name, value, hints[name])
                    raise wrong_kind(_called(function), where, wrong, given, _words(hints[name]))
            missing = {
                name: _words(hints[name])
                for name, parameter in signature.parameters.items()
                if name not in bound and name in hints and parameter.default is parameter.empty
                and parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
            }  # fmt: skip
            if missing:
                raise missing_arguments(_called(function), missing, given)
        return function(*arguments, **options)

    return call


def _refuse_unknown(
    function: Callable[..., Any],
    signature: inspect.Signature,
    hints: Collection[str],
    arguments: Sequence[Any],
    options: Mapping[str, Any],
) -> None:
    """Refuse arguments that a function does not have: by a name, or more by position than it takes."""
    parameters = [parameter for parameter in signature.parameters.values() if parameter.name != "self"]
    open_to_names = {parameter.name for parameter in parameters if parameter.kind is parameter.VAR_KEYWORD}
    names = [name for name in dict.fromkeys([*(p.name for p in parameters), *hints]) if name not in _NO_ARGUMENTS]
    names = [name for name in names if name not in open_to_names]
    called = _called(function)
    given = arguments[len(signature.parameters) - len(parameters) :]
    if unknown := [name for name in options if name not in names and name != "self"]:
        network = options.get("network", options.get("what", next(iter(given), None)))
        written = repr(network) if isinstance(network, str) else "network"
        raise unknown_argument(called, unknown[0], options[unknown[0]], names, written)
    by_position = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    if len(given) > len(by_position):
        raise surplus_arguments(called, len(given), by_position, [name for name in names if name not in by_position])


def _called(function: Callable[..., Any]) -> str:
    """A function as it is called: a class by its own name, a method with that of its class."""
    return function.__qualname__.removesuffix(".__init__")


def no_name(what: str) -> UserError:
    """That weights are a module, or have a name or a place on the disk."""
    return UserError(
        f"{what}, has no name, and how images are shown to it is no part of weights",
        allowed="the module itself, or weights on the disk by their path",
        next="the module: init=model, or barlowctl.export(model)",
    )


@functools.cache
def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    """What each argument may be, by name; those of an unpacked TypedDict in the place of its own."""
    hints: dict[str, Any] = {}
    for name, hint in get_type_hints(function).items():
        options = get_args(hint)[0] if name == "options" else None
        hints |= {name: hint} if options is None else get_type_hints(options)
    return hints


def _fits(value: Any, hint: Any) -> bool:
    origin, arguments = get_origin(hint) or hint, get_args(hint)
    if hint is Any:
        return True
    if origin in (Union, UnionType):
        return any(_fits(value, choice) for choice in arguments)
    if origin is Literal:
        return isinstance(value, tuple(type(choice) for choice in arguments))
    if origin in _NUMBERS:
        return isinstance(value, _NUMBERS[origin]) and not isinstance(value, bool)
    if origin is Sequence:
        return _is_list(value) and (not isinstance(value, Collection) or all(_fits(v, arguments[0]) for v in value))
    return isinstance(value, NoneType if origin is None else origin)


def _unfit(name: str, value: Any, hint: Any) -> tuple[str, Any]:
    """What does not fit, and where: the first such item of a list that is taken, else the argument itself."""
    choices = get_args(hint) if (get_origin(hint) or hint) in (Union, UnionType) else (hint,)
    items = [get_args(choice)[0] for choice in choices if get_origin(choice) is Sequence]
    if items and _is_list(value) and isinstance(value, Sequence):
        return next(
            (f"{name}[{row}]", item) for row, item in enumerate(value) if not any(_fits(item, kind) for kind in items)
        )
    return name, value


def _is_list(value: Any) -> bool:
    return isinstance(value, Iterable) and not isinstance(value, str | bytes | Mapping)


def _words(hint: Any) -> str:
    """What an annotation allows, in words."""
    origin, arguments = get_origin(hint) or hint, get_args(hint)
    if origin in (Union, UnionType):
        return _any_of(_words(choice) for choice in arguments)
    if origin is Literal:
        return _any_of(repr(choice) for choice in arguments)
    if origin is Sequence:
        return f"a list, each {_words(arguments[0])}"
    return _WORDS.get(origin) or f"a {origin.__name__}"


def _any_of(words: Iterable[str]) -> str:
    *others, last = dict.fromkeys(words)
    return f"{', '.join(others)} or {last}" if others else last
