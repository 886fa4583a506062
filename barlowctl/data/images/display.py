"""Pixels of any number of channels as people see them."""

from __future__ import annotations

import numpy as np


def displayed(pixels: np.ndarray) -> np.ndarray:
    """uint8 (H, W, C) as (H, W, 3): the first three bands are red, green and blue; of fewer the first is grey."""
    return pixels[..., :3] if pixels.shape[-1] >= 3 else np.repeat(pixels[..., :1], 3, axis=-1)
