"""Keys of a recipe that change nothing beside its other keys, as `optimizer.eta` with AdamW: refused where typed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from barlowctl.errors import UserError
from barlowctl.recipe.optimizers import OwnOptimizer, Unregistered
from barlowctl.recipe.overrides import without
from barlowctl.recipe.refused import value_of
from barlowctl.recipe.schema import Recipe
from barlowctl.recipe.views import Patches, View, Views

TAKEN_BY = {
    "momentum": ("lars", "sgd", "muon"),
    "betas": ("adamw", "muon"),
    "eta": ("lars",),
    "clip_trust_ratio": ("lars",),
    "lars_variant": ("lars",),
    "nesterov": ("sgd",),
}
"""Keys of `optimizer` that some optimizers take; the others are of all."""
MOST = 4
"""Keys that a line names."""


class Idle(NamedTuple):
    """A key that changes nothing.

    Attributes:
        key: dotted. value: of the recipe. default: that of a recipe which does not name the key.
        where: the key that makes it so, and its value. instead: what would let it change something.
        switch: the key of the same section that turns it off; empty where it is a name's choice, or the images'.
    """

    key: str
    value: Any
    default: Any
    where: str
    instead: str
    switch: str = ""


class _Rule(NamedTuple):
    """Keys of a section that change nothing where another of its keys has one of some values."""

    section: str
    keys: tuple[str, ...]
    other: str
    holds: Callable[[Any], bool]
    instead: str


_OF_TRAINING = (
    _Rule("train", ("final_lr_scale", "schedule_every"), "schedule", lambda v: v != "cosine", "train.schedule=cosine"),
    _Rule("train", ("milestones", "milestone_factor"), "schedule", lambda v: v != "step", "train.schedule=step"),
    _Rule("train", ("warmup_start_scale",), "warmup_epochs", lambda v: v == 0.0, "train.warmup_epochs above 0"),
    _Rule("train", ("stop_after",), "stop", lambda v: v == "off", "train.stop=knn, or another measure"),
    _Rule("train", ("freeze_backbone_epochs",), "freeze", lambda v: v == "backbone", "train.freeze=none"),
    _Rule("eval", ("linear_lr",), "linear", lambda v: not v, "eval.linear=true"),
    _Rule("eval", ("lidar_views",), "lidar_images", lambda v: v == 0, "eval.lidar_images=1000"),
    _Rule("eval", ("max_queries",), "queries", lambda v: v == "off", "eval.queries=holdout or val"),
    _Rule("eval", ("bank", "lidar_images"), "every_epochs", lambda v: v == 0, "eval.every_epochs above 0"),
)
_OF_A_VIEW = (
    (("brightness", "brightness_added", "contrast", "saturation", "hue", "gamma"), "jitter"),
    (("grayscale_first",), "grayscale"),
    (("blur_sigma",), "blur"),
    (("solarize_threshold",), "solarize"),
    (("erase_scale",), "erase"),
)
_OF_COLOUR = ("saturation", "hue", "grayscale", "grayscale_first")
"""Keys of a view that change colours: of images with other than three channels, nothing."""
_AT_ZERO = ("flip", "vertical_flip", "rotate90", "jitter", "brightness", "contrast", "saturation", "hue", "grayscale",
            "blur", "solarize", "gamma", "erase", "photometric")  # fmt: skip
_OFF_AT_ZERO = {f"views.{view}.{key}" for view in ("first", "second", "small", "patches") for key in _AT_ZERO}
"""Keys that say with 0 that a distortion is off, which it is."""


def idle(recipe: Recipe) -> list[Idle]:
    """The keys that change nothing, whatever set them, in the order of the schema's sections.

    Not those that depend on the machine (`train.cuda_graph` on a CPU), or on the network; nor what is off by itself.
    """
    training = (entry for rule in _OF_TRAINING for entry in _by(recipe, rule))
    entries = [*_of_views(recipe), *_of_optimizer(recipe), *training]
    return [entry for entry in entries if entry.value is not False and (entry.value or entry.key not in _OFF_AT_ZERO)]


def without_effect(recipe: Recipe) -> dict[str, str]:
    """The line of a run about keys that are not as they are by default, and change nothing; none where none is."""
    keys = [entry for entry in idle(recipe) if entry.value != entry.default]
    by_reason: dict[str, list[str]] = {}
    for entry in keys[:MOST]:
        by_reason.setdefault(entry.where, []).append(entry.key)
    parts = [f"{', '.join(names)}: {where}" for where, names in by_reason.items()]
    more = [f"and {len(keys) - MOST} more"] if len(keys) > MOST else []
    return {"no effect": "; ".join([*parts, *more])} if parts else {}


def refuse_idle(recipes: Sequence[Recipe], overrides: Sequence[str], place: str = "") -> None:
    """Refuse overrides `key=value` that somebody has typed, and that change nothing in any of the recipes.

    What a recipe's file has, or a recipe that it was made of, is no mistake: another optimizer may take it. Nor is what
    is typed beside the key that turns it off, as scripts and advice do. See `without_effect`.

    Args:
        recipes: with the overrides. place: the table of a file that they are in; empty: they are flags.

    Raises:
        UserError: names them, and what they would take.
    """
    typed = {name for key, value in map(_split, overrides) for name in _leaves(key, value)}
    idle_of_all = [{entry.key: entry for entry in idle(recipe) if entry.switch not in typed} for recipe in recipes]
    refused: dict[str, list[Idle]] = {}
    for override in overrides:
        of_key = [name for name in _leaves(*_split(override)) if all(name in of for of in idle_of_all)]
        if of_key and idle_of_all:
            refused[override] = [idle_of_all[0][name] for name in of_key]
    if not refused:
        return
    lines = [
        f"{f'{place}: {entry.key}' if place else f'--set {override}'} changes nothing: {_named(entry, override)}"
        for override, entries in refused.items()
        for entry in entries
    ]
    instead = dict.fromkeys(entry.instead for entries in refused.values() for entry in entries)
    raise UserError(
        "\n".join(lines),
        allowed=f"it with {'; '.join(instead)}",
        next=f"correct {place}" if place else without(list(refused)),
    )


def _named(entry: Idle, override: str) -> str:
    """Why; with the key, where an override is of a whole section."""
    return entry.where if override.startswith(f"{entry.key}=") else f"{entry.key}, since {entry.where}"


def _split(override: str) -> tuple[str, Any]:
    key, _, text = override.partition("=")
    return key.strip(), value_of(text)


def _leaves(key: str, value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _leaves(f"{key}.{name}", inner)
    else:
        yield key


def _of_optimizer(recipe: Recipe) -> Iterator[Idle]:
    values = recipe.optimizer
    if isinstance(values, Unregistered):  # nobody knows what it takes
        return
    where = f"optimizer.name is '{values.name}'"
    for key, takers in TAKEN_BY.items():
        taken = key in values.given if isinstance(values, OwnOptimizer) else values.name in takers
        if not taken:
            default = type(values).model_fields[key].default
            instead = f"optimizer.name={_or(takers)}"
            yield Idle(f"optimizer.{key}", getattr(values, key), default, where, instead)


def _by(recipe: Recipe, rule: _Rule) -> Iterator[Idle]:
    section = getattr(recipe, rule.section)
    value = getattr(section, rule.other)
    if rule.holds(value):
        where = f"{rule.section}.{rule.other} is {_plain(value)}"
        for key in rule.keys:
            default = type(section).model_fields[key].default
            switch = f"{rule.section}.{rule.other}"
            yield Idle(f"{rule.section}.{key}", getattr(section, key), default, where, rule.instead, switch)


def _of_views(recipe: Recipe) -> Iterator[Idle]:
    defaults, drawn = Views(), [view for _, view in recipe.drawn()]
    by_method = f"objective.name is '{recipe.objective.name}', which takes no such view"
    for name in ("first", "second", "small", "patches"):
        view, default = getattr(recipe.views, name), getattr(defaults, name)
        if any(view is other for other in drawn):
            yield from _of_a_view(name, view, default, recipe.data.channels)
            continue
        where = "views.small.count is 0" if name == "small" else by_method
        instead = "views.small.count above 0" if name == "small" else "a method that takes it"
        for key in type(view).model_fields:
            if key != "count":
                switch = "views.small.count" if name == "small" else ""
                yield Idle(f"views.{name}.{key}", getattr(view, key), getattr(default, key), where, instead, switch)


def _of_a_view(name: str, view: View, default: View, channels: int) -> Iterator[Idle]:
    own = f"views.{name}"
    reasons = {key: (f"data.channels is {channels}", "data.channels=3", "") for key in _OF_COLOUR if channels != 3}
    for keys, other in _OF_A_VIEW:
        if getattr(view, other) == 0.0 and not (other == "solarize" and isinstance(view, Patches)):
            reasons |= dict.fromkeys(keys, (f"{own}.{other} is 0", f"{own}.{other} above 0", f"{own}.{other}"))
    for key, (where, instead, switch) in reasons.items():
        yield Idle(f"{own}.{key}", getattr(view, key), getattr(default, key), where, instead, switch)


def _or(names: Sequence[str]) -> str:
    return " or ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"'{value}'" if isinstance(value, str) else f"{value:g}"
