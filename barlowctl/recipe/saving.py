"""When a run writes checkpoints, and how many it keeps: settings that decide nothing of what is trained."""

from __future__ import annotations

from typing import Any

from barlowctl.recipe import load
from barlowctl.recipe.schema import Recipe

KEYS = ("train.checkpoint_every_epochs", "train.checkpoint_every_steps", "train.keep_checkpoints")
"""Keys of a recipe that a run which goes on may have other values of, until it stops."""


def saving_as(recipe: Recipe, other: Recipe) -> Recipe:
    """A recipe whose checkpoints are written and kept as another one's are."""
    names = [key.removeprefix("train.") for key in KEYS]
    train = recipe.train.model_copy(update={name: getattr(other.train, name) for name in names})
    return recipe.model_copy(update={"train": train})


def of_result(changes: list[tuple[str, Any, Any]]) -> list[tuple[str, Any, Any]]:
    """Of the differences of two recipes (`load.diff`) those that make another run."""
    return [change for change in changes if change[0] not in (*KEYS, "name", "description")]


def changed(begun: Recipe, now: Recipe) -> list[str]:
    """A sentence for each of these settings that is another one now than at a run's beginning."""
    return [
        f"{key} is {after} until this process ends, and {before} in the run's recipe.toml"
        for key, before, after in load.diff(begun, saving_as(begun, now))
    ]
