"""Fonts of this machine with letters that those we bring lack: by names that systems have, and by fontconfig."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Collection
from functools import lru_cache

from PIL import ImageFont

NAMES = (
    "DejaVuSans.ttf", "NotoSans-Regular.ttf", "LiberationSans-Regular.ttf", "Arial.ttf", "NotoSansCJK-Regular.ttc",
    "wqy-microhei.ttc", "Arial Unicode.ttf", "PingFang.ttc", "Hiragino Sans GB.ttc", "AppleSDGothicNeo.ttc",
    "msyh.ttc", "YuGothM.ttc", "malgun.ttf", "Nirmala.ttc", "LeelawUI.ttf",
)  # fmt: skip
"""Files of fonts with more letters, on Linux, macOS and Windows: Pillow looks in the system's folders."""
_SECONDS = 5.0
_ALWAYS = frozenset("Aa0.")  # a font of one script alone may have no Latin letters


def named() -> list[ImageFont.FreeTypeFont]:
    """Those of `NAMES` that the machine has, in their order."""
    return [font for name in NAMES if (font := opened(name)) is not None]


@lru_cache
def opened(name: str) -> ImageFont.FreeTypeFont | None:
    """A font by its path or the name of its file; None: the machine has none that can be read."""
    try:
        return ImageFont.truetype(name)
    except OSError:
        return None


def with_letters(characters: Collection[str]) -> list[ImageFont.FreeTypeFont]:
    """A font that fontconfig knows with all of these characters, or else one for each of up to eight of them."""
    every = file_with(frozenset(characters))
    files = [every] if every else [file_with(frozenset(character)) for character in sorted(characters)[:8]]
    fonts = [opened(file) for file in dict.fromkeys(files) if file]
    return [font for font in fonts if font is not None]


@lru_cache
def file_with(characters: frozenset[str]) -> str | None:
    """The file of a font with these characters and Latin letters, an upright one without serifs if there is one."""
    program = shutil.which("fc-list")
    if program is None or not characters:
        return None
    points = " ".join(f"{ord(character):x}" for character in sorted(characters | _ALWAYS))
    pattern, form = f":charset={points}:scalable=true:color=false", "%{file}\t%{style}\n"
    try:
        listed = subprocess.run(
            [program, "-f", form, pattern], capture_output=True, text=True, timeout=_SECONDS, check=False
        ).stdout
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return None
    fonts = [tuple(line.split("\t", 1)) for line in listed.splitlines() if "\t" in line]
    return min(fonts, key=lambda font: (_unlike(*font), font), default=(None,))[0]


def _unlike(file: str, style: str) -> int:
    """How much a font differs from the plain one of a text."""
    upright = any(word in style for word in ("Regular", "Book", "Roman", "Medium"))
    return 2 * (not upright) + any(word in file for word in ("Mono", "Serif", "Bold", "Condensed", "mono"))
