"""Transparent images on a background: what a viewer shows, and not the colours that lie hidden under alpha 0."""

from __future__ import annotations

import re

import numpy as np

from barlowctl.errors import UserError

WHITE, NONE = "white", "none"
ALLOWED = "white, black, grey, a colour as #RRGGBB, or none: what lies under transparent pixels is shown as it is"
_NAMED = {"white": (255, 255, 255), "black": (0, 0, 0), "grey": (128, 128, 128), "gray": (128, 128, 128)}

_AT_ONCE = 1 << 22  # values that are blended together: their copies take 4 bytes each

Colour = tuple[int, int, int]


def parse(text: str) -> Colour | None:
    """The background's colour, or None for `none`.

    Raises:
        UserError: neither.
    """
    if text == NONE:
        return None
    if text in _NAMED:
        return _NAMED[text]
    if not re.fullmatch("#[0-9a-fA-F]{6}", text):
        raise UserError(
            f"the background is '{text}'",
            allowed=ALLOWED,
            next=f"--background {WHITE}",
        )
    red, green, blue = (int(text[at : at + 2], 16) for at in (1, 3, 5))
    return red, green, blue


def composite(pixels: np.ndarray, alpha: np.ndarray, background: Colour) -> np.ndarray:
    """round(a p + (1 - a) b): pixels uint8 (H, W) or (H, W, 3) over a colour.

    Args:
        alpha: (H, W) uint8, not premultiplied.

    Returns:
        uint8; (H, W, 3) where the background has colour.
    """
    grey = len(set(background)) == 1
    if pixels.ndim == 2 and not grey:
        pixels = np.repeat(pixels[:, :, None], 3, axis=2)
    behind = np.uint32(background[0]) if pixels.ndim == 2 else np.array(background, dtype=np.uint32)
    made, rows = np.empty_like(pixels), max(1, _AT_ONCE // max(1, pixels[:1].size))
    for top in range(0, len(pixels), rows):
        part, weight = pixels[top : top + rows].astype(np.uint32), alpha[top : top + rows].astype(np.uint32)
        weight = weight if pixels.ndim == 2 else weight[:, :, None]
        made[top : top + rows] = (part * weight + behind * (255 - weight) + 127) // 255
    return made
