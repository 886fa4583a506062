"""Prose folded between words for a terminal. What is copied stays whole: commands, paths, what is in quotes."""

from __future__ import annotations

import os
import re
from typing import Any

_PIECES = re.compile(
    r"(?<=: )(?:barlowctl|pip|python|torchrun|env|rm|tar|hf) .*"  # a command is the rest of its line
    r"|[^\s`]*`[^`]*`\S*"
    r"|(?<!\S)[(\[]*'[^']*'(?=[\s,.;:)\]]|$)\S*"
    r"|\S+"
)
_NAMED = re.compile(r" +\S+(?: \S+)* {2,}")
"""`  data       ` ahead of what a line says: the lines that go on with it begin below its text."""
LEAST = 24
"""Columns of text beside such a name: where there are fewer, lines go on at the margin."""


def for_stream(text: str, stream: Any) -> str:
    """Text as it is to be written to a stream: folded where that is a terminal."""
    if not stream.isatty():
        return text
    width = os.environ.get("COLUMNS", "")
    try:
        room = int(width) if width.isdecimal() and int(width) else os.get_terminal_size(stream.fileno()).columns
    except (OSError, ValueError):  # no terminal of the system's
        room = 80
    return folded(text, room or 80)


def folded(text: str, width: int) -> str:
    """Each line as lines of at most so many columns; a piece that is longer has a line of its own, longer than that."""
    return "\n".join(_line(line, width) if columns(line) > width else line for line in text.split("\n"))


def columns(text: str) -> int:
    """Columns of a terminal that a text takes: two for a Chinese character, none for a mark over a letter."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def _line(line: str, width: int) -> str:
    name = _NAMED.match(line)
    margin = " " * columns(name[0]) if name and width - columns(name[0]) >= LEAST else ""
    lines, end = [line[: len(line) - len(line.lstrip())]], 0
    for piece in _PIECES.finditer(line):
        between = line[end : piece.start()] if end else ""
        if end and columns(lines[-1] + between + piece[0]) > width:
            lines.append(margin + piece[0])
        else:
            lines[-1] += between + piece[0]
        end = piece.end()
    return "\n".join(lines)
