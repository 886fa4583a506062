"""What a run that goes on may have other than it began with: when it saves, and what becomes of unreadable images."""

from __future__ import annotations

from typing import Any

from barlowctl.recipe import load
from barlowctl.recipe.schema import Recipe

KEYS = (
    "train.checkpoint_every_epochs",
    "train.checkpoint_every_steps",
    "train.keep_checkpoints",
    "data.on_unreadable",
)
"""Keys of a recipe that a run which goes on may have other values of, until it stops. Nothing that is trained depends
on them, except at an image that cannot be read, where the run could not go on otherwise."""


def saving_as(recipe: Recipe, other: Recipe) -> Recipe:
    """A recipe with another one's values of these keys."""
    for key in KEYS:
        section, _, name = key.partition(".")
        settings = getattr(recipe, section).model_copy(update={name: getattr(getattr(other, section), name)})
        recipe = recipe.model_copy(update={section: settings})
    return recipe


def of_result(changes: list[tuple[str, Any, Any]]) -> list[tuple[str, Any, Any]]:
    """Of the differences of two recipes (`load.diff`) those that make another run."""
    return [change for change in changes if change[0] not in (*KEYS, "name", "description")]


def flags(begun: Recipe, now: Recipe) -> list[str]:
    """What to type beside `--resume` so that these settings stay as they are now."""
    return [word for key, _, after in load.diff(begun, saving_as(begun, now)) for word in ("--set", f"{key}={after}")]


def changed(begun: Recipe, now: Recipe) -> list[str]:
    """A sentence for each of these settings that is another one now than at a run's beginning."""
    return [
        f"{key} is {after} until this process ends, and {before} in the run's recipe.toml"
        for key, before, after in load.diff(begun, saving_as(begun, now))
    ]
