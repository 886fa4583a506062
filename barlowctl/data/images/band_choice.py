"""Bands that a file does not name, and bands that it does not have: what is said of both."""

from __future__ import annotations

from barlowctl.channels import MOST_CHANNELS
from barlowctl.data.images.unreadable import Unreadable


def unnamed(described: str, count: int) -> Unreadable:
    """Of a file of so many bands, two or more than three, of which none were chosen."""
    typed = "4,3,2" if count > 3 else "1"
    return Unreadable(
        f"{described}, and it does not say which are red, green and blue; choose three, or one for grey, "
        f"e.g. --bands {typed} of data pack, data.bands=[{typed}] of a recipe, or all as channels of their own: "
        f"--bands 1-{min(count, MOST_CHANNELS)} of data pack",
        setting=f"bands=[{typed}]",
    )


def no_such_band(described: str, band: int) -> Unreadable:
    """Of a file without a band that was chosen."""
    return Unreadable(f"{described}; there is no band {band} (see --bands of data pack, data.bands of a recipe)")
