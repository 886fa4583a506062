"""PGM and PPM of more than 8 bits, values as they lie (netpbm.sourceforge.net/doc/pgm.html): Pillow scales them."""

from __future__ import annotations

import re

import numpy as np

from barlowctl.data.images.deep import DEPTHS, Deep
from barlowctl.data.images.limits import check_size
from barlowctl.data.images.unreadable import Unreadable

_HEADER = re.compile(rb"P([2356])" + 3 * rb"(?:\s|#[^\n\r]*[\n\r])+(\d{1,9})" + rb"(?:#[^\n\r]*)?\s")


def read(data: bytes) -> Deep | None:
    """Values (H, W) or (H, W, 3) of the first picture in the file; None: of 8 bits or less, or another format.

    Raises:
        Unreadable: too large, or cut short.
    """
    header = _HEADER.match(data[:4096]) if data[:1] == b"P" else None
    if header is None:
        return None
    width, height, white = (int(part) for part in header.groups()[1:])
    if not 255 < white < 65536:
        return None
    check_size(width, height)
    colours, count = (1, width * height) if header[1] in b"25" else (3, width * height * 3)
    body = memoryview(data)[header.end() :]
    if header[1] in b"56":
        values = np.frombuffer(body[: 2 * count], ">u2").astype(np.uint16) if len(body) >= 2 * count else None
    else:
        words = re.sub(rb"#[^\n\r]*", b"", body).split(None, count)[:count]
        values = np.array(words, dtype=np.uint16) if len(words) == count else None
    if values is None:
        raise Unreadable("image file is truncated: it ends before its last value")
    shape = (height, width) if colours == 1 else (height, width, 3)
    if white == 65535:  # what programs write whose values have fewer bits too
        return Deep(values.reshape(shape), "uint16")
    bits = next((bits for bits in DEPTHS if white == 2**bits - 1), 0)
    return Deep(values.reshape(shape), "uint16", bits, white=0 if bits else white)
