"""What a recipe's views make of images, to be looked at before anything is trained."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Literal

from PIL import Image

from barlowctl.api.arguments import checked
from barlowctl.api.options import ImagesLike
from barlowctl.api.pictures import named_or_in_memory
from barlowctl.api.process import as_a_command
from barlowctl.api.recipes import Overrides, RecipeLike, open_recipe
from barlowctl.assemble.data import choices_of
from barlowctl.assemble.model import preprocessing_of
from barlowctl.assemble.previewing import draw_preview


@checked
def preview(
    recipe: RecipeLike,
    data: ImagesLike | None = None,
    *,
    split: str = "train",
    samples: int = 8,
    overrides: Overrides | None = None,
    loader: Literal["auto", "fast", "plain"] = "auto",
) -> Image.Image:
    """Originals beside the views that a training would see, as `barlowctl data preview` draws them.

    Args:
        recipe, data, overrides: as of `pretrain`; nothing is packed. split: of a data set.
        samples: how many images, drawn by the recipe's seed. loader: "auto", "fast" or "plain".

    Returns:
        the picture; a notebook shows what a cell ends with.

    Raises:
        UserError: a recipe that cannot be, or no such images.
    """
    with as_a_command(), tempfile.TemporaryDirectory(prefix="barlowctl-") as folder:
        chosen = open_recipe(recipe, overrides)
        images = named_or_in_memory(data, choices_of(preprocessing_of(chosen)))
        file = Path(folder) / "preview.png"
        draw_preview(chosen, images, split, file, samples=samples, loader=loader)
        with Image.open(file) as picture:
            return picture.copy()
