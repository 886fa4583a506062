"""The compared methods as variants of one recipe: Table 1, and the figures with a curve for each method.

A base recipe gives images, backbone, views, batch, length and schedule. What makes a method itself comes from that
method's own recipe: its loss, heads, optimizer and whatever it changes in the views. Those recipes come in families of
one kind of images: `fashion-mnist-NAME` for small ones, `resnet50-NAME` for ImageNet's.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from barlowctl.errors import UserError, did_you_mean
from barlowctl.recipe import catalog, load, objectives
from barlowctl.recipe.schema import Recipe
from barlowctl.study.study import Override, Study, Variant

TABLE_1: Mapping[str, tuple[float | None, float | None]] = {
    "supervised": (76.5, None),
    "moco": (60.6, None),
    "pirl": (63.6, None),
    "simclr": (69.3, 89.0),
    "moco-v2": (71.1, 90.1),
    "simsiam": (71.3, None),
    "swav": (71.8, None),
    "byol": (74.3, 91.6),
    "barlow-twins": (73.2, 91.0),
}
"""Linear top-1 and top-5 of ResNet-50 on ImageNet, as Table 1 prints them (SwAV: without multi-crop)."""

NAMES = (*objectives.METHODS, "multicrop-barlow-twins")
"""What can be compared: the methods, and Barlow Twins with small views, which has a recipe of its own in a family."""

STUDIES = ("drop-aug", "batch-size", "projector")
"""Studies that any method can have: the others change what only Barlow Twins has."""

SMALL = 64
"""Pixels: views of at most this side take the settings for small images."""
FAMILIES = {True: "fashion-mnist", False: "resnet50"}

# What a method's recipe may change of the base: its own settings, and neither images, backbone, length nor schedule.
OWN_SECTIONS = ("objective.", "optimizer.", "views.")
OWN_KEYS = (
    "model.projector", "model.projector_batch_norm", "model.predictor", "train.micro_batch", "train.sync_batch_norm",
)  # fmt: skip
SHARED_KEYS = ("views.size", "views.interpolation", "views.mean", "views.std")


def parse(text: str) -> list[str]:
    """Names of methods, separated by commas; "all": every one.

    Raises:
        UserError: no such method, or none.
    """
    if text.strip() == "all":
        return list(NAMES)
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


def family_of(base: Recipe) -> str:
    """The family of recipes whose settings suit a base recipe's images, by the size of its views."""
    return FAMILIES[base.views.size <= SMALL]


def overrides_of(method: str, base: Recipe, family: str) -> tuple[Override, ...]:
    """What turns the base recipe into one of that method: the method's own settings in its family.

    None for the base recipe's own method, which stays as it is.

    Raises:
        UserError: the family has no recipe of the method.
    """
    if method == base.objective.name:
        return ()
    reference = load.load(family)
    if method == reference.objective.name:
        own = reference
    else:
        name = f"{family}-{method}"
        if name not in catalog.shipped():
            there = [other for other in NAMES if f"{family}-{other}" in catalog.shipped()]
            raise UserError(
                f"there is no recipe '{name}' to take the settings of '{method}' from",
                allowed=f"with {family}: {', '.join(there) or 'none'}",
                next="barlowctl recipes list",
            )
        own = load.load(name)
    settings = {
        key: value
        for key, value in load.flatten(own).items()
        if key.startswith("objective.") or (_is_own(key) and value != load.flatten(reference).get(key))
    }
    if base.objective.name != reference.objective.name:  # the base has another method's: what the family shares as well
        shared = {key: value for key, value in load.flatten(own).items() if _is_own(key) and "views." not in key}
        settings = {**shared, **settings}
    return tuple(f"{key}={toml(value)}" for key, value in settings.items() if value is not None)


def _is_own(key: str) -> bool:
    return (key.startswith(OWN_SECTIONS) or key in OWN_KEYS) and key not in SHARED_KEYS


def toml(value: Any) -> str:
    """A recipe's plain value as `--set` takes it. JSON's texts, numbers and lists are TOML's."""
    return json.dumps(value)


def compare(names: Sequence[str], base: Recipe, family: str) -> Study:
    """Table 1: the chosen methods on the base recipe; they are compared with its own method."""
    own = base.objective.name
    chosen = names if own in names else [own, *names]
    variants = [
        Variant(name, overrides_of(name, base, family), TABLE_1.get(name, (None, None)), group=name) for name in chosen
    ]
    note = (
        f"each method with its own settings from the recipes {family}-NAME; images, backbone, batch, length and "
        "schedule are the base recipe's. Table 1 has 800 to 1000 epochs for most methods, of settings of their own"
    )
    return Study("methods", "Methods", "Table 1", tuple(variants), own, note=note)


def across(build: Callable[[Recipe], Study], names: Sequence[str], base: Recipe, family: str) -> Study:
    """A study for several methods: every variant of each, compared with that method's own baseline.

    A variant's changes are those of the study built for the method's recipe (its learning rates, its projector), and
    come after what makes it that method. Variants of the base recipe's own method keep their names.
    """
    own = base.objective.name
    order = [own] * (own in names) + [name for name in names if name != own]
    studies = {name: build(load.override(base, overrides_of(name, base, family))) for name in order}
    variants: list[Variant] = []
    for name, study in studies.items():
        settings = overrides_of(name, base, family)
        prefix = "" if name == own else f"{name}."
        for variant in study.variants:
            top1, top5 = (
                variant.published if name == objectives.DEFAULT else (_published(study, name, variant.name), None)
            )
            variants.append(
                replace(
                    variant,
                    name=f"{prefix}{variant.name}",
                    overrides=(*settings, *_for_all_views(variant.overrides, settings)),
                    published=(top1, top5),
                    group=name,
                    baseline=f"{prefix}{study.baseline}",
                )
            )
    first = studies[order[0]]
    baseline = variants[0].baseline
    assert baseline is not None
    return replace(first, variants=tuple(variants), baseline=baseline)


def _for_all_views(overrides: Sequence[Override], settings: Sequence[Override]) -> tuple[Override, ...]:
    """Changes of the first two views, made to small views as well where a method has them."""
    if not any(setting.startswith("views.small.count=") for setting in settings):
        return tuple(overrides)
    first = [change for change in overrides if change.startswith("views.first.")]
    return (*overrides, *(change.replace("views.first.", "views.small.", 1) for change in first))


def _published(study: Study, method: str, variant: str) -> float | None:
    """What the paper prints of another method's variant."""
    series = next((series for series in study.series if series.method == method), None)
    return series.points.get(variant) if series else None
