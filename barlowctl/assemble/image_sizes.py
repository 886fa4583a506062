"""How large images are, from a look at some of them, and what views far larger than that come to."""

from __future__ import annotations

import time
from contextlib import suppress

import numpy as np

from barlowctl.assemble.data import ImageSet
from barlowctl.data.beton.reader import Beton
from barlowctl.data.images.unreadable import UnreadableImage
from barlowctl.recipe.caution import of_enlargement
from barlowctl.recipe.schema import Recipe

LOOKED_AT, SECONDS = 16, 1.0
"""Images of a folder that are read for it, spread evenly; after so many seconds no further one is (large scenes)."""


def shorter_side(source: ImageSet) -> int | None:
    """The median of the images' shorter sides, in pixels; None where none of those that are looked at can be read."""
    if isinstance(source, Beton):
        return int(np.median(np.minimum(source.widths, source.heights)))
    sides, until = list[int](), time.monotonic() + SECONDS
    for index in np.unique(np.linspace(0, source.num_samples - 1, LOOKED_AT).astype(int)):
        if time.monotonic() > until:
            break
        with suppress(OSError, UnreadableImage):
            sides.append(min(source.image(int(index)).shape[:2]))
    return int(np.median(sides)) if sides else None


def describe_enlargement(source: ImageSet, recipe: Recipe) -> dict[str, str]:
    """That views enlarge the images far, for people; nothing where they do not."""
    side = shorter_side(source)
    notes = [] if side is None else of_enlargement(recipe, side)
    return {"enlarged": "; ".join(notes)} if notes else {}
