"""Command lines as a shell reads them: what is printed to be typed again. A leaf: standard library only.

A path may hold anything: spaces, quotes, brackets, a dash in front, line breaks, bytes that are no text.
"""

from __future__ import annotations

import os
import re
import shlex
import sys
from pathlib import PurePath

_ESCAPED = re.compile(r"\$'((?:[^'\\]|\\x[0-9a-f]{2})*)'")
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def line(*words: object) -> str:
    """A command line of these words, each quoted where a shell needs it.

    A path that begins with a dash gets `./` in front, or it would be read as a flag.
    """
    return " ".join(_quoted(_text(word)) for word in words)


def split(line: str) -> list[str]:
    """The words of a line that `line` made.

    Raises:
        ValueError: an open quote, as an apostrophe of a sentence is.
    """
    return shlex.split(_ESCAPED.sub(lambda match: shlex.quote(_unescaped(match[1])), line))


def _unescaped(text: str) -> str:
    return os.fsdecode(re.sub(rb"\\x([0-9a-f]{2})", lambda match: bytes([int(match[1], 16)]), text.encode()))


def _text(word: object) -> str:
    text = str(word)
    return f"./{text}" if isinstance(word, PurePath) and text.startswith("-") else text


def _quoted(word: str) -> str:
    if _UNPRINTABLE.search(word) or not _shown_as_it_is(word):
        octets = os.fsencode(word)  # bash and zsh read $'...' with its escapes
        return "$'" + "".join(chr(o) if 32 <= o < 127 and o not in b"'\\" else f"\\x{o:02x}" for o in octets) + "'"
    return shlex.quote(word)


def _shown_as_it_is(word: str) -> bool:
    """Whether the terminal's encoding has all of a word's characters."""
    try:
        word.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except (UnicodeEncodeError, LookupError):
        return False
    return True
