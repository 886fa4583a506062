"""Mean and standard deviation of the pixels of a packed data set, as a recipe normalises with them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from barlowctl.data.beton.reader import Beton

MOST = 2_000
"""Images that are looked at, spread evenly: of more the numbers change in their third digit."""


@dataclass(frozen=True)
class Statistics:
    """Per channel, of pixels in [0, 1]; every image counts alike, however large. images: that were looked at."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    images: int


def pixel_statistics(beton: Beton, progress: Callable[[int], None] = lambda count: None) -> Statistics:
    """Of one channel where no image has colour, else of three; of all bands.

    Args:
        progress: called with 1 for every image.

    Raises:
        UserError: an image is damaged; names it.
    """
    count = beton.num_samples
    rows = np.unique(np.linspace(0, count - 1, min(count, MOST)).round().astype(np.int64))
    sums = np.zeros((2, beton.channels))
    for row in rows:
        pixels = beton.image(int(row)).reshape(-1, beton.stored_channels)[:, : beton.channels]
        for channel in range(beton.channels):
            levels = np.bincount(pixels[:, channel], minlength=256) / len(pixels)
            values = np.arange(256) / 255
            sums[:, channel] += levels @ values, levels @ values**2
        progress(1)
    mean, square = sums / len(rows)
    std = np.sqrt(np.maximum(square - mean**2, 0.0))
    return Statistics(_rounded(mean), _rounded(std), len(rows))


def _rounded(values: np.ndarray) -> tuple[float, ...]:
    return tuple(round(float(value), 4) for value in values)
