"""Text in pictures drawn with Pillow: in the font that it brings, or in the machine's where that lacks a letter."""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Iterable

from PIL import Image, ImageDraw, ImageFont

from barlowctl.errors import UserError
from barlowctl.plots import machine_fonts
from barlowctl.plots.style import INK, PAPER

Font = ImageFont.FreeTypeFont
_NO_CHARACTER = "\uffff"  # what a font draws of it, it draws of every character that it lacks


def font(size: float, texts: Iterable[str] = ()) -> Font:
    """The font at a size in pixels: Pillow's own, else the one that lacks fewest characters of the texts."""
    own = ImageFont.load_default(size=size)
    if not isinstance(own, ImageFont.FreeTypeFont):
        raise UserError("this Pillow was built without FreeType: it cannot write text")
    characters = {character for text in texts for character in composed(text)}
    if not _lacking(own, characters):
        return own
    candidates = [own, *(other.font_variant(size=size) for other in machine_fonts.named())]
    best = min(candidates, key=lambda candidate: len(_lacking(candidate, characters)))
    if lacking := _lacking(best, characters):
        rare = {character for character in characters if not character.isascii()}
        others = machine_fonts.with_letters(rare) or machine_fonts.with_letters(lacking)
        candidates = [best, *(other.font_variant(size=size) for other in others)]
        best = min(candidates, key=lambda candidate: len(_lacking(candidate, characters)))
    return best


def suited(text: str, common: Font) -> Font:
    """The font of a picture's texts, or one of its own for a text of another script."""
    return font(common.size, [text]) if _lacking(common, set(composed(text))) else common


def drawable(text: str, font: Font) -> str:
    """The text in characters that the font has: letters without their marks, else `\\u65e5` for what it lacks."""
    text = composed(text)
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


def shortened(text: str, font: Font, width: float) -> str:
    """The text as it can be drawn, or its beginning, an ellipsis and its end: long names often differ at their ends."""
    text = drawable(text, font)
    if font.getlength(text) <= width:
        return text
    for letters in range(len(text) - 1, 1, -1):
        end = letters // 3
        shorter = f"{text[: letters - end].rstrip()}…{text[len(text) - end :].lstrip()}"
        if font.getlength(shorter) <= width:
            return shorter
    return "…"


def draw_turned(image: Image.Image, text: str, top_middle: tuple[int, int], font: Font) -> None:
    """Draw text that reads upwards, its end at `top_middle`."""
    text = drawable(text, font)
    box = font.getbbox(text)
    tile = Image.new("RGB", (max(1, round(box[2])), max(1, round(box[3]) + 2)), PAPER)
    ImageDraw.Draw(tile).text((0, 0), text, INK, font)
    turned = tile.rotate(90, expand=True)
    image.paste(turned, (top_middle[0] - turned.width // 2, top_middle[1]))


def composed(text: str) -> str:
    """A letter and its marks as one character, which macOS writes as two in the names of files."""
    return unicodedata.normalize("NFC", text)


def _simpler(character: str, font: Font) -> str:
    letters = "".join(part for part in unicodedata.normalize("NFKD", character) if not unicodedata.combining(part))
    if letters and letters != character and not _lacking(font, set(letters)):
        return letters
    return escaped(character)


def escaped(character: str) -> str:
    """`\\u65e5`."""
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
