"""A recipe's views of some images as a picture, from the loader that a training would have."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from barlowctl.assemble.data import (
    ImageSet,
    LoaderChoice,
    choose_loader,
    open_recipe_images,
    training_loader,
    view_specs,
)
from barlowctl.assemble.machine import Runtime
from barlowctl.data.preview import Preview, preview
from barlowctl.data.sources.in_memory import InMemory
from barlowctl.recipe.schema import Recipe


@dataclass(frozen=True)
class Previewed:
    """The picture, the images that it is of, and the loader that made the views."""

    drawn: Preview
    source: ImageSet
    loader: LoaderChoice


def draw_preview(
    recipe: Recipe, data: str | InMemory | None, split: str, out: Path, *, samples: int, loader: str
) -> Previewed:
    """Write a picture of originals beside the views of a recipe.

    Args:
        data: the images; None: the recipe's. out: a PNG. samples: how many images. loader: "auto", "fast" or "plain".

    Raises:
        UserError: no such images, or a picture that cannot be written.
    """
    source = open_recipe_images(recipe, split, data)
    runtime, device = Runtime(device="cpu", workers=1, loader=loader), torch.device("cpu")
    choice = choose_loader(source, loader)

    def make_loader(indices: Any) -> Any:
        settings = {"batch_size": len(indices), "shuffle": False, "drop_last": False, "subset": indices}
        if recipe.data.on_unreadable == "replace":  # training goes on past it; a preview shows no other in its place
            settings["on_unreadable"] = "skip"
        return training_loader(source, recipe, runtime, device, choice=choice, **settings)

    drawn = preview(source, view_specs(recipe), out, samples=samples, seed=recipe.seed, make_loader=make_loader)
    return Previewed(drawn, source, choice)
