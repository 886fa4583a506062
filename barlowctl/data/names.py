"""Names of images as text that any file, table or terminal can hold, one a line, and back.

File names are bytes: they need not be UTF-8 (Python then holds lone surrogates, PEP 383) and may hold line breaks. Such
names are written as `ls -b` and C write them, all others as they are.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from barlowctl.errors import UserError
from barlowctl.output_paths import free

_SHORT = {"\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
_LONG = {mark: name for name, mark in _SHORT.items()}
# A backslash, control characters, what Unicode takes for the end of a line, and surrogates.
_SPECIAL = re.compile("[\\\\\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_ESCAPED = re.compile(r"\\(?:[\\nrt]|x[0-9a-f]{2}|u[0-9a-f]{4})")


def written(name: str) -> str:
    r"""A name without line breaks, control characters and bytes that are not UTF-8.

    These become \n, \r, \t, \xHH (a byte) or \uHHHH (a character), and a backslash becomes two; `as_found` undoes it.
    """
    return _SPECIAL.sub(_escape, name)


def as_found(text: str) -> str:
    """The name that `written` was given; text that it did not write is returned as far as it makes sense."""
    if "\\" not in text:
        return text
    return _ESCAPED.sub(_unescape, text)


def packed_as(source: Path, split: str = "train") -> Path:
    """A packed file in the current folder that is named like what is to be packed, and is not there yet.

    Another split than train is called after it too: one name for both would be taken by the first.
    """
    name = source.absolute().resolve() if source.name in ("", "..") else source
    stem = (name.stem if name.is_file() else name.name) or "images"
    if "{" in stem or "::" in stem:  # shards
        stem = re.split(r"[^\w.]*(?:\{|::)", stem)[0] or "images"
    target = Path(f"{stem}.beton" if split == "train" else f"{stem}-{split}.beton")
    return free(target) if os.path.lexists(target) else target


def require_text(path: Path) -> None:
    """Refuse a place that safetensors cannot write to, before anything is computed for it.

    Raises:
        UserError: the path is not UTF-8.
    """
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise UserError(
            f"'{written(str(path))}' is not UTF-8, and files of weights and features cannot be written there",
            next="name another place with --out",
        ) from error


def _escape(match: re.Match[str]) -> str:
    mark = match[0]
    if mark in _SHORT:
        return _SHORT[mark]
    if 0xDC80 <= ord(mark) <= 0xDCFF:  # a byte that is not UTF-8
        return f"\\x{ord(mark) - 0xDC00:02x}"
    return f"\\x{ord(mark):02x}" if ord(mark) < 0x80 else f"\\u{ord(mark):04x}"


def _unescape(match: re.Match[str]) -> str:
    mark = match[0]
    if mark in _LONG:
        return _LONG[mark]
    number = int(mark[2:], 16)
    return os.fsdecode(bytes([number])) if mark[1] == "x" and number >= 0x80 else chr(number)
