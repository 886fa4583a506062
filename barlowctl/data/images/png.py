"""What Pillow does not tell of a PNG: damage, 16 bits a channel, how many of them are meant (PNG 1.2, 4 and 5)."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

SIGNATURE = b"\x89PNG\r\n\x1a\n"
GREY, RGB, GREY_ALPHA, RGBA = 0, 2, 4, 6  # colour types


def depth(data: bytes) -> tuple[int, int]:
    """(bits a channel, colour type) of a PNG; (0, 0): not one."""
    if data[:8] != SIGNATURE or data[12:16] != b"IHDR" or len(data) < 26:
        return 0, 0
    return data[24], data[25]


def significant_bits(data: bytes) -> int:
    """The largest number in chunk sBIT, which must precede the pixels; 0: there is none."""
    for kind, chunk in _chunks(data):
        if kind == b"sBIT" and chunk:
            return max(chunk)
        if kind == b"IDAT":
            break
    return 0


def transparent_value(data: bytes) -> tuple[int, ...] | None:
    """The grey level, or red, green and blue, that chunk tRNS makes transparent, at the file's depth."""
    for kind, chunk in _chunks(data):
        if kind == b"tRNS":
            return tuple(int.from_bytes(chunk[at : at + 2]) for at in range(0, len(chunk) - 1, 2))
        if kind == b"IDAT":
            break
    return None


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 8
    while at + 12 <= len(data):
        length = int.from_bytes(data[at : at + 4])
        yield data[at + 4 : at + 8], data[at + 8 : at + 8 + length]
        at += 12 + length


def is_damaged(data: bytes) -> bool:
    """Whether a checksum of what pixels depend on is wrong, or the end is missing (PNG, 5.3): Pillow looks in part."""
    if data[:8] != SIGNATURE:
        return False
    at, view = 8, memoryview(data)
    while at + 12 <= len(data):
        kind, end = data[at + 4 : at + 8], at + 8 + int.from_bytes(data[at : at + 4])
        if end + 4 > len(data):
            return True  # cut short
        if kind[:1].isupper() and zlib.crc32(view[at + 4 : end]) != int.from_bytes(data[end : end + 4]):
            return True
        if kind == b"IEND":
            return False
        at = end + 4
    return True
