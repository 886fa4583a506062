"""A recipe at another length: what it says in epochs stays where it was, as a share of the training."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from barlowctl.recipe.schema import Recipe
from barlowctl.recipe.section import Section, WithinTraining
from barlowctl.study.variant import Override


def at_length(recipe: Recipe, epochs: float) -> tuple[Override, ...]:
    """The changes that make the recipe one of so many epochs, `train.epochs` first.

    Whatever is marked `WithinTraining` is scaled; epochs that are whole numbers (milestones) stay whole, at least 1.
    """
    changes = [f"train.epochs={epochs:.10g}"]
    for key, value in within_training(recipe):
        if isinstance(value, tuple):
            moments = sorted({max(1, round(moment / recipe.train.epochs * epochs)) for moment in value})
            changes += [f"{key}={moments}"] if moments else []
        elif value:
            changes.append(f"{key}={scaled(value, recipe.train.epochs, epochs):.6g}")
    return tuple(changes)


def scaled(value: float, epochs: float, new_epochs: float) -> float:
    """A length within a training of `epochs`, in one of another length; no longer than that."""
    return min(value / epochs * new_epochs, new_epochs)


def within_training(recipe: Recipe) -> Iterator[tuple[str, Any]]:
    """Key and value of everything in a recipe that belongs to the training's length."""
    for name in type(recipe).model_fields:
        section = getattr(recipe, name)
        if isinstance(section, Section):
            for key, field in type(section).model_fields.items():
                if any(isinstance(mark, WithinTraining) for mark in field.metadata):
                    yield f"{name}.{key}", getattr(section, key)
