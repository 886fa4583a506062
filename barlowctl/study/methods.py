"""The compared methods as variants of one recipe: Table 1, and the figures with a curve for each method.

A base recipe gives images, backbone, views, batch, length and schedule. What makes a method itself comes from that
method's own recipe: its loss, heads, optimizer and whatever it changes in the views. Those recipes come in families
(`family`) of one kind of images.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from barlowctl import shell
from barlowctl.errors import UserError, did_you_mean
from barlowctl.recipe import load, objectives
from barlowctl.recipe.schema import Recipe
from barlowctl.study.family import NAMES, Family, name_of
from barlowctl.study.length import scaled, within_training
from barlowctl.study.study import Study
from barlowctl.study.variant import Override, Settings, Variant, overridden

TABLE_1: Mapping[str, tuple[float | None, float | None]] = {
    "supervised": (76.5, None),
    "moco": (60.6, None),
    "pirl": (63.6, None),
    "simclr": (69.3, 89.0),
    "moco-v2": (71.1, 90.1),
    "simsiam": (71.3, None),
    "swav": (71.8, None),
    "byol": (74.3, 91.6),
    "swav-multicrop": (75.3, None),
    "barlow-twins": (73.2, 91.0),
}
"""Linear top-1 and top-5 of ResNet-50 on ImageNet, as Table 1 prints them."""

STUDIES = ("drop-aug", "batch-size", "projector")
"""Studies that any method can have: the others change what only Barlow Twins has."""

# What a method's recipe may change of the base: its own settings, and neither images, backbone, length nor schedule.
OWN_SECTIONS = ("objective.", "optimizer.", "views.")
OWN_KEYS = (
    "model.projector", "model.projector_batch_norm", "model.predictor", "train.micro_batch", "train.sync_batch_norm",
)  # fmt: skip
SHARED_KEYS = ("views.size", "views.interpolation", "views.mean", "views.std")


def parse(text: str, family: Family) -> list[str]:
    """Names of methods, separated by commas; "all": every one that the family has a recipe of.

    Raises:
        UserError: no such method, or none.
    """
    if text.strip() == "all":
        return family.names
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in NAMES:
            raise UserError(
                f"there is no method '{name}'{did_you_mean(name, NAMES)}",
                allowed=f"all, or of these: {', '.join(NAMES)}",
                next="--methods all",
            )
    if not names:
        raise UserError("--methods names no method", allowed=f"all, or of these: {', '.join(NAMES)}")
    return list(dict.fromkeys(names))


def settings_of(method: str, base: Recipe, family: Family) -> Settings | None:
    """What turns the base recipe into one of that method: the method's own settings in its family.

    None for the base recipe's own method (without or with small views), which stays as it is.

    Raises:
        UserError: the family has no recipe of the method, or one of another method under its name.
    """
    if method == name_of(base):
        return None
    name = family.find(method)
    own, reference = load.load(name), family.reference(base)
    if method in objectives.OURS and own.objective.name != method:
        raise UserError(
            f"recipe '{name}' is of '{own.objective.name}', and its name says '{method}'", next="rename one of them"
        )
    before = load.flatten(reference)
    settings = {
        key: value
        for key, value in load.flatten(own).items()
        if key.startswith("objective.") or (_is_own(key) and value != before.get(key))
    }
    if base.objective.name != reference.objective.name:  # the base has another method's: what the family shares as well
        shared = {key: value for key, value in load.flatten(own).items() if _is_own(key) and "views." not in key}
        settings = {**shared, **settings}
    for key, value in within_training(own):
        if key in settings:  # epochs of the method's own recipe, which may be shorter or longer
            settings[key] = float(f"{scaled(value, own.train.epochs, base.train.epochs):.6g}")
    if base.views.small.count and "views.small.count" not in settings:
        settings["views.small.count"] = own.views.small.count
    changes = (f"{key}={toml(value)}" for key, value in settings.items() if value is not None)
    return Settings(name, tuple(changes))


def _is_own(key: str) -> bool:
    return (key.startswith(OWN_SECTIONS) or key in OWN_KEYS) and key not in SHARED_KEYS


def toml(value: Any) -> str:
    """A recipe's plain value as `--set` takes it. JSON's texts, numbers and lists are TOML's."""
    return json.dumps(value)


def compare(names: Sequence[str], base: Recipe, family: Family) -> Study:
    """Table 1: the chosen methods on the base recipe; they are compared with its own method."""
    own = name_of(base)
    chosen = names if own in names else [own, *names]
    settings = {name: settings_of(name, base, family) for name in chosen}
    variants = [
        Variant(name, made.overrides if made else (), TABLE_1.get(name, (None, None)), group=name, settings=made)
        for name, made in settings.items()
    ]
    note = (
        f"each method has its own settings from the recipes of {family.name}; images, backbone, batch, length and "
        "schedule are the base recipe's. Table 1 has ResNet-50 on ImageNet, and 800 to 1000 epochs for most methods"
    )
    return Study("methods", "Methods", "Table 1", tuple(variants), own, note=note)


def across(build: Callable[[Recipe], Study], names: Sequence[str], base: Recipe, family: Family) -> Study:
    """A study for several methods: every variant of each, compared with that method's own baseline.

    A variant's changes are those of the study built for the method's recipe (its learning rates, its projector), and
    come after what makes it that method. Variants of the base recipe's own method keep their names.
    """
    own = name_of(base)
    order = [own] * (own in names) + [name for name in names if name != own]
    variants: list[Variant] = []
    studies: list[Study] = []
    for name in order:
        settings = settings_of(name, base, family)
        recipe, prefix = base, ""
        if settings is not None:
            prefix = f"{name}."
            recipe = overridden(
                base,
                settings.overrides,
                f"method '{name}' (settings of {settings.recipe})",
                shell.line("barlowctl", "recipes", "show", settings.recipe),
            )
        study = build(recipe)
        studies.append(study)
        for variant in study.variants:
            top1, top5 = (
                variant.published if name == objectives.DEFAULT else (_published(study, name, variant.name), None)
            )
            variants.append(
                replace(
                    variant,
                    name=f"{prefix}{variant.name}",
                    overrides=(*(settings.overrides if settings else ()), *_for_all_views(variant.overrides, recipe)),
                    published=(top1, top5),
                    group=name,
                    baseline=f"{prefix}{study.baseline}",
                    settings=settings,
                )
            )
    baseline = variants[0].baseline
    assert baseline is not None
    note = "; ".join(
        filter(None, (studies[0].note, f"methods have their own settings from the recipes of {family.name}"))
    )
    return replace(studies[0], variants=tuple(variants), baseline=baseline, note=note)


def _for_all_views(overrides: Sequence[Override], recipe: Recipe) -> tuple[Override, ...]:
    """Changes of the first two views, made to small views and to patches as well where a method has them."""
    first = [change for change in overrides if change.startswith("views.first.")]
    more = [change.replace("first", "small", 1) for change in first] if recipe.views.small.count else []
    if recipe.objective.patches:
        more += [change.replace("first", "patches", 1) for change in first]
        more += ["views.patches.photometric=0"] * ("views.first.solarize=0" in first)  # which it has instead
    return (*overrides, *more)


def _published(study: Study, method: str, variant: str) -> float | None:
    """What the paper prints of another method's variant."""
    series = next((series for series in study.series if series.method == method), None)
    return series.points.get(variant) if series else None
