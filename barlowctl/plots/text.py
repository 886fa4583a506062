"""Text in pictures drawn with Pillow: in the font that it brings, or in the machine's where that lacks a letter."""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Iterable
from functools import lru_cache

from PIL import Image, ImageDraw, ImageFont

from barlowctl.errors import UserError
from barlowctl.plots.style import INK, PAPER

Font = ImageFont.FreeTypeFont
OTHERS = (
    "DejaVuSans.ttf", "NotoSans-Regular.ttf", "LiberationSans-Regular.ttf", "Arial.ttf", "NotoSansCJK-Regular.ttc",
    "wqy-microhei.ttc", "Arial Unicode.ttf", "PingFang.ttc",
)  # fmt: skip
"""Files of fonts with more letters, where the machine has them: Pillow looks in the system's folders."""
_NO_CHARACTER = "\uffff"  # what a font draws of it, it draws of every character that it lacks


def font(size: float, texts: Iterable[str] = ()) -> Font:
    """The font at a size in pixels: Pillow's own, else the one that lacks fewest characters of the texts."""
    own = ImageFont.load_default(size=size)
    if not isinstance(own, ImageFont.FreeTypeFont):
        raise UserError("this Pillow was built without FreeType: it cannot write text")
    characters = {character for text in texts for character in _composed(text)}
    if not _lacking(own, characters):
        return own
    candidates = [own, *(other.font_variant(size=size) for name in OTHERS if (other := _of_machine(name)) is not None)]
    return min(candidates, key=lambda candidate: len(_lacking(candidate, characters)))


def drawable(text: str, font: Font) -> str:
    """The text in characters that the font has: letters without their marks, else `\\u65e5` for what it lacks."""
    text = _composed(text)
    lacking = _lacking(font, set(text))
    return "".join(_simpler(character, font) if character in lacking else character for character in text)


def fitted(text: str, font: Font, width: float) -> str:
    """The text as it can be drawn, or its beginning and an ellipsis where it is wider than `width` pixels."""
    text = drawable(text, font)
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"


def draw_turned(image: Image.Image, text: str, top_middle: tuple[int, int], font: Font) -> None:
    """Draw text that reads upwards, its end at `top_middle`."""
    text = drawable(text, font)
    box = font.getbbox(text)
    tile = Image.new("RGB", (max(1, round(box[2])), max(1, round(box[3]) + 2)), PAPER)
    ImageDraw.Draw(tile).text((0, 0), text, INK, font)
    turned = tile.rotate(90, expand=True)
    image.paste(turned, (top_middle[0] - turned.width // 2, top_middle[1]))


def _composed(text: str) -> str:
    """A letter and its marks as one character, which macOS writes as two in the names of files."""
    return unicodedata.normalize("NFC", text)


def _simpler(character: str, font: Font) -> str:
    letters = "".join(part for part in unicodedata.normalize("NFKD", character) if not unicodedata.combining(part))
    if letters and letters != character and not _lacking(font, set(letters)):
        return letters
    return character.encode("ascii", "backslashreplace").decode()


def _lacking(font: Font, characters: Collection[str]) -> set[str]:
    """Characters that the font draws as it draws what is none."""
    rare = {character for character in characters if not character.isascii()}
    if not rare:
        return rare
    none = _drawn(font, _NO_CHARACTER)
    return {character for character in rare if _drawn(font, character) == none}


def _drawn(font: Font, character: str) -> tuple[tuple[int, int], bytes]:
    mask = font.getmask(character)
    return mask.size, bytes(mask)


@lru_cache
def _of_machine(name: str) -> Font | None:
    """A font of the machine's; None: it has none of this name."""
    try:
        return ImageFont.truetype(name)
    except OSError:
        return None
