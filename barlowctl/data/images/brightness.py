"""Whether a picture shows anything: images in the wrong range come out black or white, and masks look flat."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

DARK, BRIGHT, FLAT = "nearly black", "nearly white", "flat"
SHARE = 1000
"""One value in so many may be an exception: hot pixels, dust, a frame's corner."""

EXAMPLES = 3  # named
_LEVELS_OF_DARK, _LEVELS_OF_FLAT = 32, 8  # of 256
_LOOKED_AT = 1 << 16  # values of a picture


def look(pixels: np.ndarray) -> str:
    """DARK: fewer than one value in 1,000 reaches 32; BRIGHT: as few are below 224; FLAT: the others lie in 8 levels.

    Args:
        pixels: uint8 of any shape; of large pictures some 65,000 values are looked at, spread evenly.

    Returns:
        One of them, or "".
    """
    flat = pixels.reshape(-1)
    step = max(1, len(flat) // _LOOKED_AT)
    row = pixels.shape[1] * (pixels.shape[2] if pixels.ndim == 3 else 1) if pixels.ndim > 1 else 1
    while step > 1 and (math.gcd(step, row) > 1 or step % 3 == 0):  # else some columns or colours only
        step += 1
    counts = np.bincount(flat[::step], minlength=256)
    allowed = counts.sum() // SHARE
    if counts[_LEVELS_OF_DARK:].sum() <= allowed:
        return DARK
    if counts[: 256 - _LEVELS_OF_DARK].sum() <= allowed:
        return BRIGHT
    below = np.concatenate([[0], np.cumsum(counts)])
    most = (below[_LEVELS_OF_FLAT:] - below[: len(below) - _LEVELS_OF_FLAT]).max()
    return FLAT if counts.sum() - most <= allowed else ""


def describe_looks(names_by_look: Mapping[str, Sequence[str]], images: int, of_range: bool) -> list[str]:
    """A line for each look: how many, which, and what to do.

    Args:
        names_by_look: look -> names. images: of how many. of_range: whether some values had a range to choose.
    """
    advice = (
        "if they should show more, set the range of their values: --range LOW:HIGH of data pack, data.range of a "
        "recipe (values of 8 bits are taken as they are)"
        if of_range
        else "values of 8 bits are taken as they are: are these masks, labels or empty pictures?"
    )
    lines = []
    for looks, names in names_by_look.items():
        more = ", ..." if len(names) > EXAMPLES else ""
        lines.append(f"{looks}: {len(names):,} of {images:,} images ({', '.join(names[:EXAMPLES])}{more}); {advice}")
    return lines
