"""The views that training draws of a sample of images, for what is measured on views: always the same ones."""

from __future__ import annotations

import numpy as np
import torch

from barlowctl.assemble.data import ImageSet, training_loader, view_specs
from barlowctl.assemble.machine import Runtime
from barlowctl.data.images.unreadable import OnMeasuring
from barlowctl.data.loaders.base import ViewLoader
from barlowctl.recipe.schema import Recipe


def sample_views(
    source: ImageSet,
    recipe: Recipe,
    runtime: Runtime,
    device: torch.device,
    members: np.ndarray | None,
    *,
    images: int,
    batch_size: int,
    on_unreadable: OnMeasuring | None,
) -> tuple[ViewLoader, int]:
    """A loader of full-size views of images that are spread evenly over a set, in order; and how many views of each.

    Args:
        members: positions of the images to draw from; None: all.
        images: how many, or all if there are fewer.
        on_unreadable: None: leave such images out where the recipe goes on past them.
    """
    pool = np.arange(source.num_samples) if members is None else members
    chosen = pool[np.linspace(0, len(pool) - 1, min(images, len(pool))).round().astype(np.int64)]
    specs = view_specs(recipe)[: recipe.objective.full_views]
    loader = training_loader(
        source,
        recipe,
        runtime,
        device,
        batch_size=min(batch_size, len(chosen)),
        shuffle=False,
        specs=specs,
        subset=chosen,
        on_unreadable=on_unreadable or ("skip" if recipe.data.on_unreadable == "replace" else "raise"),
    )
    return loader, len(specs)
