"""What a JPEG's headers say, without decoding it (ITU T.81, annex B)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from barlowctl.data.images.limits import check_size
from barlowctl.data.images.unreadable import Unreadable

HUFFMAN_FRAMES = (0xC0, 0xC1, 0xC2)  # baseline, extended, progressive
ORIENTATION = 0x0112
"""The tag of TIFF 6.0 and EXIF."""

_PIXELS_PER_BYTE = 2048
"""No Huffman-coded JPEG holds more: a block of 64 pixels takes a bit, and the largest component may have a quarter of
the width or height."""


def segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(marker, contents) of a JPEG's segments up to its first scan (ITU T.81, B.1.1.4)."""
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] not in (0xD9, 0xDA):
        marker = data[at + 1]
        if marker == 0xFF:  # fill byte
            at += 1
        elif marker == 0x01 or 0xD0 <= marker <= 0xD7:  # stands alone
            at += 2
        else:
            length = int.from_bytes(data[at + 2 : at + 4])
            yield marker, data[at + 4 : at + 2 + length]
            at += 2 + length


def frame(data: bytes) -> tuple[int, int, int, int, int] | None:
    """(frame marker, bits, height, width, components) of a JPEG (ITU T.81, B.2.2); None: not a JPEG."""
    if data[:2] != b"\xff\xd8":
        return None
    for marker, segment in segments(data):
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC) and len(segment) >= 6:
            return marker, segment[0], int.from_bytes(segment[1:3]), int.from_bytes(segment[3:5]), segment[5]
    raise Unreadable("a JPEG without a frame header (cut short or damaged)")


def check(data: bytes, marker: int, height: int, width: int) -> None:
    """Refuse a size that is too large, or that so few bytes cannot hold: decoders would fill all of it with grey.

    Raises:
        Unreadable: one of these.
    """
    check_size(width, height)
    if marker in HUFFMAN_FRAMES and width * height > _PIXELS_PER_BYTE * len(data):
        raise Unreadable(f"it says {width}x{height} pixels, which {len(data)} bytes cannot hold (cut short or damaged)")


def orientation(data: bytes) -> int:
    """EXIF orientation of a JPEG, 1 (upright) where there is none or it cannot be read (TIFF 6.0, section 2)."""
    for marker, segment in segments(data):
        if marker != 0xE1 or segment[:6] != b"Exif\0\0":
            continue
        tiff = segment[6:]
        order: Literal["little", "big"] = "little" if tiff[:2] == b"II" else "big"
        start = int.from_bytes(tiff[4:8], order)
        for i in range(int.from_bytes(tiff[start : start + 2], order)):
            entry = tiff[start + 2 + 12 * i : start + 14 + 12 * i]
            if len(entry) < 12:
                return 1
            if int.from_bytes(entry[:2], order) == ORIENTATION:
                value = int.from_bytes(entry[8:10], order)
                return value if 1 <= value <= 8 else 1
        return 1
    return 1


def has_zero_step(data: bytes) -> bool:
    """Whether a quantization table holds a zero (T.81, B.2.4.1 forbids it), which takes colours or detail away.

    The loader's decoder does not complain; newer ones refuse the image.
    """
    for marker, tables in segments(data):
        while marker == 0xDB and tables:
            width = 2 if tables[0] >> 4 else 1
            steps, tables = tables[1 : 1 + 64 * width], tables[1 + 64 * width :]
            if any(int.from_bytes(steps[i : i + width]) == 0 for i in range(0, len(steps), width)):
                return True
    return False
