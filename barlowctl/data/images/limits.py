"""How large an image may be: the same for every way in, said before its pixels are decoded."""

from __future__ import annotations

from barlowctl.data.beton.layout import MAX_PIXELS, MAX_SIDE
from barlowctl.data.images.unreadable import Unreadable

MAX_BYTES = 4 << 30
"""Of one image's values as its file holds them, in all bands."""


def check_size(width: int, height: int) -> None:
    """Refuse an image that is too large.

    Raises:
        Unreadable: with its size, the limits and what to do.
    """
    if not (0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE and width * height <= MAX_PIXELS):
        raise Unreadable(
            f"{width} x {height} pixels, and at most {MAX_PIXELS:,} an image and {MAX_SIDE:,} a side are read; "
            "make it smaller, or cut it into tiles"
        )


def check_bytes(width: int, height: int, bands: int, itemsize: int) -> None:
    """Refuse an image whose values do not fit in memory.

    Raises:
        Unreadable: as `check_size`.
    """
    check_size(width, height)
    if width * height * bands * itemsize > MAX_BYTES:
        raise Unreadable(
            f"{width} x {height} pixels in {bands} bands of {itemsize} bytes, and at most {MAX_BYTES >> 30} GiB an "
            "image are read; make it smaller, or cut it into tiles"
        )
