"""TOML files as editors write them: UTF-8, with or without a byte order mark, UTF-16, any line ends."""

from __future__ import annotations

import codecs
from pathlib import Path

from barlowctl.errors import UserError

# UTF-32's mark begins with UTF-16's: the longer ones first.
_MARKS = {
    codecs.BOM_UTF32_LE: "UTF-32-LE",
    codecs.BOM_UTF32_BE: "UTF-32-BE",
    codecs.BOM_UTF8: "UTF-8",
    codecs.BOM_UTF16_LE: "UTF-16-LE",
    codecs.BOM_UTF16_BE: "UTF-16-BE",
}


def read_text(path: Path) -> str:
    """The text of a file, with \\n at the end of its lines.

    Notepad and PowerShell mark their encoding at the beginning of a file (Unicode, 23.8); TOML itself is UTF-8.

    Raises:
        UserError: the encoding is not one of these; names the file and the line.
        OSError: the file cannot be read.
    """
    octets = path.read_bytes()
    mark = next((mark for mark in _MARKS if octets.startswith(mark)), b"")
    octets, encoding = octets.removeprefix(mark), _MARKS.get(mark, "UTF-8")
    if not mark and b"\0" in octets[:64]:  # a letter in every second byte, without a mark
        encoding = "UTF-16-BE" if octets[0] == 0 else "UTF-16-LE"
    try:
        text = octets.decode(encoding)
    except UnicodeDecodeError as error:
        line = octets.count(b"\n", 0, error.start) + 1
        raise UserError(
            f"'{path}', line {line}: the byte 0x{octets[error.start]:02x} is no {encoding} text",
            allowed="UTF-8 (an older editor may have saved it in a code page such as Windows-1252)",
            next="save it as UTF-8",
        ) from None
    return text.replace("\r\n", "\n").replace("\r", "\n")
