"""From a TOML file and overrides to a validated `Recipe`, and back to TOML."""

from __future__ import annotations

import copy
import functools
import hashlib
import json
import re
import tomllib
from collections.abc import Collection, Iterator, Sequence
from typing import Any, TypeVar

import tomli_w
from pydantic import ValidationError

from barlowctl import own_code, shell
from barlowctl.channels import MOST_CHANNELS
from barlowctl.errors import UserError
from barlowctl.recipe import catalog
from barlowctl.recipe.evaluation import Eval
from barlowctl.recipe.images import Data
from barlowctl.recipe.initial import for_channels
from barlowctl.recipe.network import Model
from barlowctl.recipe.objectives import DEFAULT
from barlowctl.recipe.optimizers import Unregistered, unregistered
from barlowctl.recipe.problems import Origin
from barlowctl.recipe.refused import value_of
from barlowctl.recipe.schema import Recipe
from barlowctl.recipe.section import Section
from barlowctl.recipe.text import read_text
from barlowctl.recipe.validation import validated
from barlowctl.recipe.views import Views

S = TypeVar("S", bound=Section)

NETWORK = ("model.backbone", "model.stem", "model.backbone_args")
"""Keys that say which backbone is trained: one of them that is named takes the place of the weights' own."""
STATISTICS = ("views.mean", "views.std")


class Measuring(Section):
    """The sections of a recipe that say how images are shown to a network: what is changed where one is measured."""

    data: Data
    views: Views
    eval: Eval
    model: Model


def load(name_or_path: str, overrides: Sequence[str] = ()) -> Recipe:
    """The recipe of that name or file with `key=value` overrides applied, validated and frozen.

    Raises:
        UserError: no such recipe, TOML that does not parse, an unknown key, a value not allowed.
    """
    path = catalog.find(name_or_path)
    own_code.remember_folder(path.parent)
    try:
        text = read_text(path)
    except OSError as error:
        raise UserError(
            f"the recipe '{path}' cannot be read: {error.strerror}", next=shell.line("ls", "-l", path)
        ) from error
    example = name_or_path if name_or_path in catalog.shipped() else "quickstart"
    return parse(text, overrides, origin=Origin(str(path), text, example, typed=True))


def parse(text: str, overrides: Sequence[str] = (), *, origin: Origin | None = None) -> Recipe:
    """A recipe from TOML text. See `load`."""
    origin = origin or Origin("recipe", text)
    try:
        values = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, brackets within brackets
        raise UserError(
            f"{origin.file} is not valid TOML: {error}", next="barlowctl recipes show quickstart"
        ) from error
    return _overridden(Recipe, values, overrides, origin)


def measuring(values: dict[str, Any], overrides: Sequence[str]) -> Measuring:
    """How images are shown to a network: values of its four sections with `key=value` overrides. See `load`."""
    values = {**values, "data": {"dataset": "", **values["data"]}}
    return _overridden(Measuring, values, overrides, Origin("how images are shown", "", typed=True))


def _overridden(schema: type[S], values: dict[str, Any], overrides: Sequence[str], origin: Origin) -> S:
    """Values with overrides, validated."""

    def accepts(others: Sequence[str]) -> bool:
        changed = copy.deepcopy(values)
        try:
            _override(changed, others, Origin(origin.file, origin.text))
            schema.model_validate(changed)
        except (UserError, ValidationError):
            return False
        return True

    changed = copy.deepcopy(values)
    _override(changed, overrides, origin)
    return validated(schema, changed, origin, accepts if origin.typed else None)


def _override(values: dict[str, Any], overrides: Sequence[str], origin: Origin) -> None:
    if without := [override for override in overrides if not override.partition("=")[0].strip() or "=" not in override]:
        raise UserError(
            "\n".join(f"--set {override!r} is not key=value" for override in without),
            allowed="e.g. --set train.epochs=5",
            next=shell.line("without", f"--set={without[0]}", *(f"--set={override}" for override in without[1:])),
        )
    parsed = [(*_parse_override(override), override) for override in overrides]
    named = [value for key, value, _ in parsed if key == "objective.name"]
    objective = values.get("objective", {})
    if named and isinstance(objective, dict) and objective.get("name", DEFAULT) != named[-1]:
        values["objective"] = {}  # another method: the keys of the recipe's own are not its keys, whatever their names
    weights = [value for key, value, _ in parsed if key == "init.weights"]
    init = values.get("init", {})
    if weights and isinstance(init, dict) and init.get("weights") != weights[-1]:
        init.pop("sha256", None)  # of the weights that the recipe started from before
    keys = {key for key, _, _ in parsed}
    for key, value, override in parsed:
        _assign(values, key, value, override)
        origin.overridden[key] = override
    init = values.get("init", {})
    if not isinstance(init, dict) or not init.get("weights"):
        return
    if _any_named(keys, STATISTICS) and "init.normalization" not in keys:
        init["normalization"] = "recipe"  # said in so many words: not those of the weights
    if _any_named(keys, NETWORK) and "init.network" not in keys:
        init["network"] = "recipe"
    if "data.channels" in keys and not _any_named(keys, STATISTICS):
        _other_channels(values)


def _any_named(keys: Collection[str], names: Collection[str]) -> bool:
    """Whether a key is one of the names, or a part of what is."""
    return any(key == name or key.startswith(f"{name}.") for key in keys for name in names)


def _other_channels(values: dict[str, Any]) -> None:
    """Mean and std for the channels that were asked for, in place of the recipe's; the weights' follow as they begin.

    What cannot be read as numbers stays, for the schema to refuse.
    """
    channels, views = values.get("data", {}).get("channels"), values.get("views", {})
    if isinstance(channels, int) and 1 <= channels <= MOST_CHANNELS and isinstance(views, dict):
        for key in ("mean", "std"):
            own = views.get(key, Views.model_fields[key].default)
            if isinstance(own, list | tuple) and own and all(isinstance(value, int | float) for value in own):
                views[key] = list(for_channels(own, channels))
        values["views"] = views


def override(recipe: Recipe, overrides: Sequence[str], *, typed: bool = False) -> Recipe:
    """A recipe like `recipe` except for `key=value` overrides, validated again.

    `objective.name` of another method begins its keys anew, from their defaults.

    Args:
        typed: whether a person wrote the overrides, and is to be told of what would do in their place.

    Raises:
        UserError: an unknown key, or a value that is not allowed.
    """
    text = dump(recipe)
    with unregistered(*[recipe.optimizer.name] * isinstance(recipe.optimizer, Unregistered)):
        return parse(text, overrides, origin=Origin("recipe", text, typed=typed))


def as_begun(named: Recipe, begun: Recipe) -> Recipe:
    """A recipe that is named again for a run, with what the run noted when it read the same weights to start from."""
    if not named.init.weights or named.init.weights != begun.init.weights:
        return named
    init = named.init if named.init.sha256 else named.init.model_copy(update={"sha256": begun.init.sha256})
    views = named.views
    if init.normalization == "weights":
        views = views.model_copy(update={"mean": begun.views.mean, "std": begun.views.std})
    model = named.model
    if init.network == "weights":
        model = model.of_network(begun.model.backbone, begun.model.stem, begun.model.backbone_args)
    return named.model_copy(update={"init": init, "views": views, "model": model})


def dump(recipe: Recipe) -> str:
    """The complete recipe as TOML: every value, defaults included. `parse` gives it back equal."""
    return _ARRAY.sub(_in_a_line, tomli_w.dumps(recipe.model_dump(mode="json")))


_ARRAY = re.compile(r"\[\n((?:    [^\n]*,\n)+)\]")
"""An array as tomli_w writes it, a line for each value, which is no array itself."""


def _in_a_line(array: re.Match[str]) -> str:
    line = f"[{', '.join(line.strip().removesuffix(',') for line in array[1].splitlines())}]"
    return line if len(line) <= 100 else array[0]


_TURNED = {"vertical_flip": 0.0, "rotate90": 0.0}
_LATER_VIEW = {"brightness_added": False, "grayscale_first": False, "solarize_threshold": 128.0, **_TURNED}
ADDED_LATER: dict[str, dict[str, Any]] = {
    "data": {"holdout_groups": "", "range": "auto", "background": "white", "bands": []},
    "views.first": _LATER_VIEW,
    "views.second": _LATER_VIEW,
    "views.small": _LATER_VIEW,
    "views.patches": _TURNED,
    "model": {"image_size": 0, "patch_size": 0, "pooling": "default", "drop_path": 0.0},
    "objective": {"name": DEFAULT},
    "eval": {"linear": False, "linear_lr": 1e-3, "lidar_images": 0, "lidar_views": 10},
    "init": {"network": "recipe"},
    "optimizer": {
        "clip_grad_norm": 0.0,
        "lars_variant": "barlow-twins",
        "nesterov": False,
        "exclude_biases": True,
        "layer_decay": 1.0,
    },
    "train": {
        "cuda_graph": True,
        "warmup_start_scale": 0.0,
        "schedule": "cosine",
        "schedule_every": "step",
        "milestones": [],
        "milestone_factor": 0.1,
        "freeze": "none",
        "freeze_backbone_epochs": 0.0,
        "keep_best": "off",
        "stop": "off",
        "stop_after": 5,
        "sync_batch_norm_ranks": 0,
        "shard": False,
    },
}
"""Keys that runs of earlier versions lack. With these values, which say what those did, they are not in a digest."""


def digest(recipe: Recipe) -> str:
    """A short hash of everything that decides the result of a run (name and description do not)."""
    values = recipe.model_dump(mode="json", exclude={"name", "description"})
    for section, keys in ADDED_LATER.items():
        table = functools.reduce(lambda part, name: part.get(name, {}), section.split("."), values)
        for key, before in keys.items():
            if table.get(key, ...) == before:
                del table[key]
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]


def digest_of(text: str) -> str | None:
    """`digest` of TOML text by the keys it has, as the version that wrote it (`dump`) knew them; None: not TOML."""
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return None
    remaining = {key: value for key, value in values.items() if key not in ("name", "description")}
    return hashlib.sha256(json.dumps(remaining, sort_keys=True, default=str).encode()).hexdigest()[:16]


def validate(values: dict[str, Any], file: str) -> Recipe:
    """A recipe from plain values, as `Recipe.model_dump` gives them; `file` is named in errors."""
    return validated(Recipe, values, Origin(file, ""))


def flatten(recipe: Recipe) -> dict[str, Any]:
    """Dotted keys to plain values, in the schema's order."""
    return dict(_walk(recipe.model_dump(mode="json")))


def diff(old: Recipe, new: Recipe) -> list[tuple[str, Any, Any]]:
    """Dotted keys whose values differ, with both values (None where a key is absent)."""
    before, after = flatten(old), flatten(new)
    keys = list(before) + [key for key in after if key not in before]
    return [(key, before.get(key), after.get(key)) for key in keys if before.get(key) != after.get(key)]


def _parse_override(override: str) -> tuple[str, Any]:
    key, _, value = override.partition("=")
    try:
        override.encode()
    except UnicodeEncodeError:
        raise UserError(f"--set {override!r} is not text in UTF-8, and a recipe is", next="rename it") from None
    return key.strip(), value_of(value)


def _assign(values: dict[str, Any], key: str, value: Any, override: str) -> None:
    *tables, last = key.split(".")
    for table in tables:
        values = values.setdefault(table, {})
        if not isinstance(values, dict):
            raise UserError(
                f"--set {override}: '{table}' is a value, not a section",
                next=shell.line("without", f"--set={override}"),
            )
    values[last] = value


def _walk(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict) and value:
            yield from _walk(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value
