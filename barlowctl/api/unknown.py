"""Arguments that a function does not have, or not of that kind, or lacks: what is meant, with the right call."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from torch import nn

from barlowctl.amounts import counted
from barlowctl.api.recipes import open_recipe, override_texts
from barlowctl.errors import UserError, kind_of, nearest
from barlowctl.measure.tasks import MEASURES, TRAINABLE
from barlowctl.recipe import bare_words
from barlowctl.recipe.protocol import Protocol

_OF_RECIPES = ("pretrain", "pretrain_events", "preview", "build_method")
_OPENED_WITH = ("eval.", "data.range", "data.background", "data.bands", "model.", "views.")
"""Keys that say how images are shown to a network, and what weights are of: where a network is opened."""
_MEASURING = ("features", "probe", "Network.features", "Network.probe")
_MEANT = {
    **dict.fromkeys(("dataset", "images", "train_data", "train_dataset", "trainset"), "data"),
    **dict.fromkeys(("output", "save_dir", "output_dir", "out_dir", "run_dir", "log_dir"), "out"),
    **dict.fromkeys(("callback", "callbacks"), "on_event"),
}
_TRANSFORMS = ("transform", "transforms", "augment", "augmentation", "augmentations", "view_transform", "collate_fn")
_ALIKE = 0.7
_LONGEST, _LONGEST_NAMED = 40, 60


class UnknownArgument(UserError, TypeError):
    """A call with an argument that the function does not have: to Python a TypeError, as of every function."""


def unknown_argument(function: str, name: str, value: Any, names: Collection[str], network: str) -> UnknownArgument:
    """The error of an argument by a name that a function does not have.

    Args:
        function: its name, of a method with that of the class. names: of its arguments.
        network: what was given as the network, as Python writes it.
    """
    near = _MEANT[name] if _MEANT.get(name) in names else nearest(name, names, cutoff=_ALIKE)
    key = bare_words.key_of(name)
    if near is None and key is not None and function in _OF_RECIPES:
        return _key_of_a_recipe(function, name, key, value)
    there = f"{function}() has no argument '{name}'"
    if near is not None:
        return UnknownArgument(
            f"{there}, did you mean '{near}'?", allowed=_list(names), next=f"{near}={_written(value)}"
        )
    if name in _TRANSFORMS and function in _OF_RECIPES:
        return UnknownArgument(
            f"{there}: the views of an image are made as the recipe's table views says, so that a run can go on and be "
            "repeated",
            allowed="keys of views.first and views.second: crop_scale, flip, rotate90, brightness, blur, ...; or a "
            "loop of your own, with any distortions (docs/python.md, In a loop of your own)",
            next="overrides={'views.first.crop_scale': [0.2, 1.0], 'views.second.crop_scale': [0.2, 1.0]}",
        )
    if function.endswith("probe") and (call := _of_probe(name, value)):
        return UnknownArgument(there, allowed=_list(names), next=call)
    if key is not None and key.startswith(_OPENED_WITH) and (function in _MEASURING or "overrides" in names):
        given = f"overrides={{{key!r}: {_fitting(key, value)}}}"
        opened = f"barlowctl.open_network({network}, {given})" if function in _MEASURING else given
        return UnknownArgument(f"{there}: it is a key of recipes, {key}", allowed=_takes(key), next=opened)
    return UnknownArgument(there, allowed=_list(names), next=f"leave {name} out")


def surplus_arguments(
    function: str, given: int, by_position: Collection[str], others: Collection[str]
) -> UnknownArgument:
    """The error of more arguments by position than a function takes.

    Args:
        given: how many there were. by_position: the names of those that it takes so. others: of those by name alone.
    """
    example = "data" if "data" in others else next(iter(others), "")
    taken = f"{len(by_position)} ({', '.join(by_position)})" if by_position else "none"
    return UnknownArgument(
        f"{function}() was given {given} arguments by position, and takes {taken}",
        allowed=f"by name: {', '.join(others)}" if others else None,
        next=f"name what follows, e.g. {example}=..." if others else "leave out what follows",
    )


class MissingArgument(UserError, TypeError):
    """A call without an argument that the function needs: to Python a TypeError, as of every function."""


def missing_arguments(function: str, missing: Mapping[str, str], given: Mapping[str, Any]) -> MissingArgument:
    """The error of arguments that a call lacks, with the call that has them.

    Args:
        function: see `unknown_argument`. missing: name -> what it may be, in words. given: name -> value.
    """
    count = counted(len(missing), "required argument")
    return MissingArgument(
        f"{function}() is missing {count}: {', '.join(missing)}",
        allowed="; ".join(f"{name}: {words}" for name, words in missing.items()),
        next=_call(function, {**dict.fromkeys(missing), **given}),
    )


def wrong_kind(function: str, name: str, value: Any, given: Mapping[str, Any], allowed: str) -> UserError:
    """The error of an argument of another kind than the function takes; a name of a network leads to its key.

    Args:
        function, given: see `missing_arguments`. allowed: what it takes, in words.
    """
    key = bare_words.key_of(name) if function in _OF_RECIPES else None
    advice = None
    if key is not None and isinstance(value, str) and "overrides" not in given and _accepts(key, value):
        others = {known: of for known, of in given.items() if known not in ("recipe", name)}
        call = {"recipe": given.get("recipe", "resnet50"), **others, "overrides": {key: value}}
        advice, allowed = _call(function, call), f"{allowed}; a name is a value of the recipe, {_takes(key)}"
    return UserError(f"{name} is {described(value)}", allowed=allowed, next=advice)


def _accepts(key: str, value: Any) -> bool:
    """Whether a recipe takes a value for a key."""
    try:
        open_recipe("quickstart", {key: value})
    except UserError:
        return False
    return True


def _call(function: str, arguments: Mapping[str, Any]) -> str:
    """A call as Python writes it: the recipe by position, quickstart where there is none, ... for what is not known."""
    texts = {name: "..." if value is None else _written(value) for name, value in arguments.items()}
    if "recipe" in texts:
        recipe = texts.pop("recipe")
        texts = {"recipe": "'quickstart'" if arguments["recipe"] is None else recipe, **texts}
    call = ", ".join(text if name == "recipe" else f"{name}={text}" for name, text in texts.items())
    return f"barlowctl.{function}({call})"


def described(value: Any) -> str:
    """What a value is: `5, an int`; what is long by its kind alone; a function or a class by its name."""
    text = repr(value)
    if isinstance(name := getattr(value, "__name__", None), str) and " at 0x" in text:
        return f"{name!r}, {kind_of(value)}"
    long = len(text) > _LONGEST_NAMED or "\n" in text or " at 0x" in text
    return kind_of(value) if long else f"{text}, {kind_of(value)}"


def _key_of_a_recipe(function: str, name: str, key: str, value: Any) -> UnknownArgument:
    call = f"overrides={{{key!r}: {_fitting(key, value)}}}"
    if _fits(key, value):
        message = f"{function}() has no argument '{name}': it is a key of the recipe, {key}"
        return UnknownArgument(message, allowed=_takes(key), next=call)
    if isinstance(value, nn.Module) and key == "model.backbone":
        return _module_as_backbone(name, value)
    what = "loss" if name in ("loss", "criterion") else name
    return UnknownArgument(
        f"{name} is {kind_of(value)}: a run notes its {what} as a key of its recipe, {key}, to go on and to be "
        "repeated, and of an object it does not know that",
        allowed=f"{_takes(key)}; or a loop of your own, with any {what} (docs/python.md, In a loop of your own)",
        next=call,
    )


def _module_as_backbone(name: str, module: nn.Module) -> UnknownArgument:
    return UnknownArgument(
        f"{name} is {kind_of(module)}: a run notes how its network is built, to go on and to be repeated, and of a "
        "module it does not know that",
        allowed="a network by its name in timm: a function that builds yours, registered with timm's register_model, "
        "and overrides={'model.backbone': 'its_name'} (docs/python.md, Parts of your own); or a loop of your own",
        next="barlowctl.build_method(recipe, backbone=module), for a loop of your own",
    )


def _of_probe(name: str, value: Any) -> str | None:
    """The argument of `probe` that says the same: a measure, a training, or a value of its protocol."""
    if name in MEASURES:
        return f"measures=[{name!r}]"
    if (trained := name.replace("_", "-")) in TRAINABLE:
        return f"trained=[{trained!r}]"
    if name in Protocol.model_fields and name != "name":
        return f"trained=['linear'], overrides={{{name!r}: {_written(value)}}}"
    return None


def _takes(key: str) -> str:
    return f"{key}: {bare_words.takes(key)}"


def _fits(key: str, value: Any) -> bool:
    """Whether a value can be written into a recipe."""
    try:
        override_texts({key: value})
    except UserError:
        return False
    return not isinstance(value, nn.Module)


def _fitting(key: str, value: Any) -> str:
    """The value as Python writes it; of one that no recipe can have, the key's default."""
    default = bare_words.default(key)
    return _written(value if _fits(key, value) else list(default) if isinstance(default, tuple) else default)


def _written(value: Any) -> str:
    text = repr(value)
    return "..." if len(text) > _LONGEST or "\n" in text or " at 0x" in text else text


def _list(names: Collection[str]) -> str:
    return ", ".join(names)
