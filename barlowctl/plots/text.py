"""Text in pictures drawn with Pillow, in the font that it brings."""

from __future__ import annotations

from PIL import Image, ImageDraw, ImageFont

from barlowctl.errors import UserError
from barlowctl.plots.style import INK, PAPER

Font = ImageFont.FreeTypeFont


def font(size: float) -> Font:
    """The font at a size in pixels."""
    loaded = ImageFont.load_default(size=size)
    if not isinstance(loaded, ImageFont.FreeTypeFont):
        raise UserError("this Pillow was built without FreeType: it cannot write text")
    return loaded


def fitted(text: str, font: Font, width: float) -> str:
    """The text, or its beginning and an ellipsis where it is wider than `width` pixels."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"


def draw_turned(image: Image.Image, text: str, top_middle: tuple[int, int], font: Font) -> None:
    """Draw text that reads upwards, its end at `top_middle`."""
    box = font.getbbox(text)
    tile = Image.new("RGB", (max(1, round(box[2])), max(1, round(box[3]) + 2)), PAPER)
    ImageDraw.Draw(tile).text((0, 0), text, INK, font)
    turned = tile.rotate(90, expand=True)
    image.paste(turned, (top_middle[0] - turned.width // 2, top_middle[1]))
