"""Text files as any program and editor writes them, taken apart into lines or paths.

UTF-8, UTF-16 and UTF-32 with or without a byte order mark (PowerShell, Notepad), any line ends, NUL between paths
(`find -print0`), and single bytes of other encodings, which stay as they are (PEP 383).
"""

from __future__ import annotations

import codecs
import os
import re
from pathlib import Path

from barlowctl.errors import UserError

_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


def is_text(head: bytes) -> bool:
    """Whether a file begins as text does, in one of the encodings that are read."""
    if any(head.startswith(mark) for mark, _ in _MARKS):
        return True
    head = head[: len(head) // 2 * 2]
    if _wide(head):
        return True
    return bool(head.strip(b"\0")) and not re.search(rb"[\x01-\x08\x0e-\x19\x1b-\x1f\x7f]", head)


def between_nuls(data: bytes) -> list[str] | None:
    """The paths that NUL parts; None where they are parted otherwise."""
    data = data.removeprefix(codecs.BOM_UTF8)
    if b"\0" not in data or _encoding(data) != "utf-8":
        return None
    return [os.fsdecode(part) for part in data.split(b"\0") if part.strip()]


def lines_of(path: Path, data: bytes) -> list[str]:
    encoding = _encoding(data)
    for mark, _ in _MARKS:
        if data.startswith(mark):
            data = data[len(mark) :]
            break
    if encoding == "utf-8":
        text = os.fsdecode(data)  # bytes that are not UTF-8 are kept: they may be a file's name
    else:
        try:
            text = data.decode(encoding)
        except UnicodeDecodeError as error:
            raise UserError(
                f"{path} is no whole {encoding.upper()} text: {error.reason} at byte {error.start}",
                next="write it again, best in UTF-8",
            ) from error
    text = text.removesuffix("\x1a")  # the end of a file in DOS
    return re.split("\r?\n", text) if "\n" in text else text.split("\r")


def _encoding(data: bytes) -> str:
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return encoding
    return _wide(data[:4096]) or "utf-8"


def _wide(head: bytes) -> str:
    """UTF-16 without a mark: every second byte is NUL in nearly all places."""
    head = head[: len(head) // 2 * 2]
    for first, encoding in ((1, "utf-16-le"), (0, "utf-16-be")):
        zeros, others = head[first::2].count(0), head[1 - first :: 2].count(0)
        if len(head) >= 4 and others == 0 and 2 * zeros > 0.8 * len(head):
            return encoding
    return ""
