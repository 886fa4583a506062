"""FITS files and NumPy arrays that hold no picture, by their headers: catalogues and spectra, labels and features.

FITS: 4.0, sections 3 and 4: each part is a header of cards of 80 bytes, then its data, both in blocks of 2,880 bytes.
What is damaged, or not understood here, is left to the reader, which says why it cannot be read.
"""

from __future__ import annotations

import gzip
import math
from contextlib import suppress
from typing import IO

import numpy as np

FITS_KIND = "FITS files without a picture (catalogues, spectra)"
NUMPY_KIND = "NumPy arrays that are no image (labels, features)"

_BLOCK, _CARD = 2880, 80
_MOST_BLOCKS = 1000  # of a header: 36,000 cards
_MOST_UNPACKED = 1 << 28  # bytes of a compressed file that are passed on the way to its parts
_GZIP = b"\x1f\x8b"


def fits(file: IO[bytes]) -> bool:
    """Whether a FITS file, compressed by gzip or not, has parts that are all read, and none of them is a picture."""
    compressed = file.read(len(_GZIP)) == _GZIP
    file.seek(0)
    with suppress(OSError, EOFError, ValueError, KeyError):
        return _is_without(gzip.GzipFile(fileobj=file) if compressed else file, _MOST_UNPACKED if compressed else 0)
    return False


def numpy(file: IO[bytes]) -> bool:
    """Whether an array is neither height x width nor has bands beside these, or holds text, by its header."""
    with suppress(OSError, EOFError, ValueError, SyntaxError):
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(file)
        return len(shape) not in (2, 3) or dtype.kind in "SU"
    return False


def _is_without(file: IO[bytes] | gzip.GzipFile, most: int) -> bool:
    at = 0
    while header := _header(file):
        if _is_picture(header):
            return False
        at = file.tell() + _length(header)
        if most and at > most:
            return False
        file.seek(at - 1)
        if not file.read(1):
            return False  # cut short
    return at > 0


def _header(file: IO[bytes] | gzip.GzipFile) -> dict[str, str]:
    """Keywords and values of the next part; empty at the end of the file, and of what follows its last part.

    Raises:
        ValueError: no header, or without an end.
    """
    cards: dict[str, str] = {}
    for number in range(_MOST_BLOCKS):
        block = file.read(_BLOCK)
        if not number and not block.startswith((b"SIMPLE  =", b"XTENSION=")):
            return {}
        if len(block) < _BLOCK:
            break
        for start in range(0, _BLOCK, _CARD):
            card = block[start : start + _CARD].decode("latin-1")
            if card.rstrip() == "END":
                return cards
            if card[8:10] == "= ":
                cards.setdefault(card[:8].strip(), card[10:].partition("/")[0].strip().strip("'").strip())
    raise ValueError("a header without an end")


def _axes(header: dict[str, str], prefix: str = "") -> list[int]:
    return [int(header[f"{prefix}NAXIS{axis}"]) for axis in range(1, int(header.get(f"{prefix}NAXIS", "0")) + 1)]


def _is_picture(header: dict[str, str]) -> bool:
    compressed = header.get("ZIMAGE") == "T"
    if header.get("XTENSION", "IMAGE") != "IMAGE" and not compressed:
        return False
    axes = _axes(header, "Z" if compressed else "")
    return header.get("GROUPS") == "T" or (len(axes) >= 2 and math.prod(axes) > 0)


def _length(header: dict[str, str]) -> int:
    """Bytes of a part's data, with what fills up its last block."""
    axes = _axes(header)
    values = math.prod(axes) if axes else 0
    groups, beside = int(header.get("GCOUNT", "1")), int(header.get("PCOUNT", "0"))
    size = abs(int(header["BITPIX"])) // 8 * groups * (beside + values)
    return -(-size // _BLOCK) * _BLOCK
