"""Rows of images with captions, drawn with Pillow; any image written to a file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

from barlowctl.files import atomic_write
from barlowctl.plots.style import GRID, INK, PAPER, SMALL
from barlowctl.plots.text import fitted, font, suited


def grid(rows: Sequence[Sequence[Image.Image]], captions: Sequence[Sequence[str]], *, side: int = 112) -> Image.Image:
    """Rows of images on squares of `side` pixels with a caption below each."""
    small = font(SMALL, (caption for words in captions for caption in words))
    cell_width, cell_height = side + 8, side + 24
    columns = max(len(row) for row in rows)
    image = Image.new("RGB", (columns * cell_width + 8, len(rows) * cell_height + 8), PAPER)
    draw = ImageDraw.Draw(image)
    for row, (pictures, words) in enumerate(zip(rows, captions, strict=True)):
        for column, (picture, caption) in enumerate(zip(pictures, words, strict=True)):
            x, y = 8 + column * cell_width, 8 + row * cell_height
            scale = side / max(picture.size)
            size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
            how = Image.Resampling.NEAREST if scale > 2 else Image.Resampling.LANCZOS
            paste_framed(
                image, picture.convert("RGB").resize(size, how), x + (side - size[0]) // 2, y + (side - size[1]) // 2
            )
            own = suited(caption, small)
            draw.text((x + side // 2, y + side + 3), fitted(caption, own, side + 4), INK, own, anchor="mt")
    return image


def paste_framed(sheet: Image.Image, picture: Image.Image, left: int, top: int) -> None:
    """Put a picture on a sheet, in a hairline that shows where a white one ends."""
    right, bottom = left + picture.width, top + picture.height
    ImageDraw.Draw(sheet).rectangle((left - 1, top - 1, right, bottom), outline=GRID)
    sheet.paste(picture, (left, top))


def save_image(image: Image.Image, path: Path, **options: Any) -> None:
    """Write an image atomically, in the format of the path's ending. options: of Pillow's `save`."""
    with atomic_write(path, durable=False) as temporary:
        image.save(temporary, **options)
