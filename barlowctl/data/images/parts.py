"""What an image file holds before any choice is made: values, transparency, and what was done to read it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from barlowctl.data.images.deep import Deep

DAMAGED = "damaged"
"""The note of an image whose decoder complained."""


@dataclass
class Parts:
    """What a file holds, upright, before any choice is made.

    values: uint8 (H, W) or (H, W, C), or more than 8 bits.    alpha: (H, W), of the file's type; None: opaque.
    premultiplied: values are those times alpha.    inverted: 0 is white.    notes: what was done.
    bands: in the file, of which `values` may be some; 0: grey or colours.
    """

    values: np.ndarray | Deep
    alpha: np.ndarray | None = None
    premultiplied: bool = False
    inverted: bool = False
    notes: list[str] = field(default_factory=list)
    bands: int = 0


def turned(values: np.ndarray, orientation: int) -> np.ndarray:
    """Upright (EXIF 2.32, tag Orientation)."""
    if orientation > 4:
        values = values.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        values = values[:, ::-1]
    if orientation in (3, 4, 7, 8):
        values = values[::-1]
    return np.ascontiguousarray(values)
