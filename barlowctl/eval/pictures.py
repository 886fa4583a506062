"""Pictures of results, drawn with Pillow: heat maps, scatter plots, rows of images. No display, no plotting library."""

from __future__ import annotations

import colorsys
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

# Anchors of viridis (matplotlib, CC0) and of a blue-white-red map, from low to high.
_VIRIDIS = [(68, 1, 84), (59, 82, 139), (33, 145, 140), (94, 201, 98), (253, 231, 37)]
_DIVERGING = [(33, 60, 140), (140, 175, 220), (255, 255, 255), (235, 150, 130), (165, 20, 40)]
BACKGROUND, INK, GREY = (255, 255, 255), (30, 30, 30), (120, 120, 120)


def colors(values: np.ndarray, low: float, high: float, *, diverging: bool = False) -> np.ndarray:
    """Values of any shape -> uint8 (..., 3), linear between `low` and `high`, clipped."""
    anchors = np.array(_DIVERGING if diverging else _VIRIDIS, dtype=np.float64)
    share = np.clip((np.asarray(values, dtype=np.float64) - low) / max(high - low, 1e-12), 0, 1)
    position = share * (len(anchors) - 1)
    left = np.minimum(position.astype(int), len(anchors) - 2)
    part = (position - left)[..., None]
    return np.rint(anchors[left] * (1 - part) + anchors[left + 1] * part).astype(np.uint8)


def class_color(label: int, count: int) -> tuple[int, int, int]:
    """A colour of its own for each of `count` classes; grey for -1, unlabelled."""
    if label < 0:
        return GREY
    step = (label * 0.61803398875) % 1.0 if count > 12 else label / max(count, 1)
    lightness = (0.42, 0.55, 0.34)[label % 3]
    red, green, blue = colorsys.hls_to_rgb(step, lightness, 0.75)
    return round(255 * red), round(255 * green), round(255 * blue)


def heat_map(
    matrix: np.ndarray,
    *,
    low: float,
    high: float,
    title: str = "",
    names: Sequence[str] = (),
    diverging: bool = False,
    texts: np.ndarray | None = None,
) -> Image.Image:
    """A matrix as squares, row 0 on top; with `names` along both sides and `texts` (strings) in the squares."""
    rows, columns = matrix.shape
    side = max(1, min(44 if texts is not None else 24, 900 // max(rows, columns)))
    labelled = bool(names) and side >= 10
    font = _font(min(13, max(9, side - 4)))
    left = 12 + (max(round(font.getlength(name)) for name in names) + 6 if labelled else 0)
    top = 12 + (22 if title else 0)
    below = left if labelled else 12
    squares = Image.fromarray(colors(matrix, low, high, diverging=diverging)).resize(
        (columns * side, rows * side), Image.Resampling.NEAREST
    )
    width = max(left + columns * side + 12, round(font.getlength(title)) + 24)
    image = Image.new("RGB", (width, top + rows * side + below), BACKGROUND)
    image.paste(squares, (left, top))
    draw = ImageDraw.Draw(image)
    draw.text((12, 8), title, INK, _font(14))
    if labelled:
        for index, name in enumerate(names):
            middle = top + index * side + side // 2
            draw.text((left - 6, middle), name, INK, font, anchor="rm")
            _draw_turned(image, name, (left + index * side + side // 2, top + rows * side + 4), font)
    if texts is not None and side >= 24:
        for row, column in np.ndindex(rows, columns):
            dark = float(colors(matrix[row, column], low, high, diverging=diverging).mean()) < 120
            place = (left + column * side + side // 2, top + row * side + side // 2)
            draw.text(place, str(texts[row, column]), BACKGROUND if dark else INK, font, anchor="mm")
    return image


def curves(series: Mapping[str, np.ndarray], title: str, *, x_label: str = "rank", side: int = 460) -> Image.Image:
    """Descending positive sequences against their rank, both axes logarithmic, each with a name."""
    scale, left, top, bottom = 2, 64, 40, 44
    width = side + left + 30
    image = Image.new("RGB", (width * scale, (side + top + bottom) * scale), BACKGROUND)
    draw = ImageDraw.Draw(image)
    longest = max(max(len(values) for values in series.values()), 2)
    positive = np.concatenate([values[values > 0] for values in series.values()])
    high = np.ceil(np.log10(positive.max())) if len(positive) else 0.0
    low = max(np.floor(np.log10(positive.min())), high - 8) if len(positive) else -1.0
    low = min(low, high - 1)

    def at(rank: np.ndarray, value: np.ndarray) -> list[tuple[float, float]]:
        x = left + side * np.log10(rank) / np.log10(longest)
        y = top + side * (high - np.log10(np.maximum(value, 10.0 ** (low - 1)))) / (high - low)
        return [(float(u) * scale, float(min(v, top + side)) * scale) for u, v in zip(x, y, strict=True)]

    font = _font(12 * scale)
    for power in range(int(low), int(high) + 1):
        ((x, y),) = at(np.array([1.0]), np.array([10.0**power]))
        draw.line((x, y, (left + side) * scale, y), (225, 225, 225), scale)
        draw.text((x - 6 * scale, y), f"1e{power}", INK, font, anchor="rm")
    for power in range(int(np.log10(longest)) + 1):
        ((x, _),) = at(np.array([10.0**power]), np.array([10.0**low]))
        draw.line((x, top * scale, x, (top + side) * scale), (225, 225, 225), scale)
        draw.text((x, (top + side + 6) * scale), str(10**power), INK, font, anchor="mt")
    for number, (name, values) in enumerate(series.items()):
        color = class_color(number, max(len(series), 3))
        kept = values > 0
        draw.line(at(np.arange(1, len(values) + 1)[kept], values[kept]), color, 2 * scale, joint="curve")
        draw.text(((left + 12) * scale, (top + side - 18 * (len(series) - number)) * scale), name, color, font)
    draw.text((left * scale, 12 * scale), title, INK, _font(14 * scale))
    draw.text(((left + side) * scale, (top + side + 24) * scale), x_label, INK, font, anchor="rt")
    return image.resize((image.width // scale, image.height // scale), Image.Resampling.LANCZOS)


def confusion_picture(matrix: np.ndarray, names: Sequence[str], title: str) -> Image.Image:
    """Shares of each true class (row), in percent, with numbers where they fit."""
    totals = np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    percent = 100.0 * matrix / totals
    texts = None
    if len(matrix) <= 20:
        texts = np.array([[f"{value:.0f}" if round(value) else "" for value in row] for row in percent])
    return heat_map(percent, low=0, high=100, title=title, names=[name[:24] for name in names], texts=texts)


def grid(rows: Sequence[Sequence[Image.Image]], captions: Sequence[Sequence[str]], *, side: int = 112) -> Image.Image:
    """Rows of images on squares of `side` pixels with a caption below each."""
    font = _font(11)
    cell_width, cell_height = side + 8, side + 24
    columns = max(len(row) for row in rows)
    image = Image.new("RGB", (columns * cell_width + 8, len(rows) * cell_height + 8), BACKGROUND)
    draw = ImageDraw.Draw(image)
    for row, (pictures, words) in enumerate(zip(rows, captions, strict=True)):
        for column, (picture, caption) in enumerate(zip(pictures, words, strict=True)):
            x, y = 8 + column * cell_width, 8 + row * cell_height
            scale = side / max(picture.size)
            size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
            how = Image.Resampling.NEAREST if scale > 2 else Image.Resampling.LANCZOS
            image.paste(
                picture.convert("RGB").resize(size, how), (x + (side - size[0]) // 2, y + (side - size[1]) // 2)
            )
            draw.text((x + side // 2, y + side + 3), _fitting(caption, font, side + 4), INK, font, anchor="mt")
    return image


def scatter(
    points: np.ndarray, labels: np.ndarray, names: Sequence[str], title: str, *, side: int = 900
) -> Image.Image:
    """Points (N, 2) coloured by label, with a legend of at most 30 classes. Drawn at twice its size, then halved."""
    scale, margin = 2, 30
    legend = 190 if names and len(names) <= 30 else 0
    big = Image.new("RGB", ((side + legend) * scale, (side + 30) * scale), BACKGROUND)
    draw = ImageDraw.Draw(big)
    placed = place(points, side, margin) * scale
    radius = scale * max(1.2, min(4.0, 120 / np.sqrt(max(len(points), 1))))
    for index in np.random.Generator(np.random.Philox(key=0)).permutation(len(points)):
        x, y = placed[index]
        y += 30 * scale
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), class_color(int(labels[index]), len(names)))
    draw.text((margin * scale, 10 * scale), title, INK, _font(16 * scale))
    if legend:
        font = _font(13 * scale)
        for label, name in enumerate(names):
            y = (50 + 20 * label) * scale
            draw.ellipse(((side + 4) * scale, y, (side + 14) * scale, y + 10 * scale), class_color(label, len(names)))
            draw.text(((side + 20) * scale, y + 5 * scale), name[:24], INK, font, anchor="lm")
    return big.resize((big.width // scale, big.height // scale), Image.Resampling.LANCZOS)


def place(points: np.ndarray, side: int, margin: int) -> np.ndarray:
    """Points (N, 2) moved and scaled into a square of `side` pixels with a margin; one scale for both axes."""
    low, high = points.min(axis=0), points.max(axis=0)
    span = float(max((high - low).max(), 1e-12))
    middle = (low + high) / 2
    inside: np.ndarray = (points - middle) / span * (side - 2 * margin) + side / 2
    return inside


def _draw_turned(image: Image.Image, text: str, top_middle: tuple[int, int], font: ImageFont.FreeTypeFont) -> None:
    """Text that reads upwards, its end at `top_middle`."""
    box = font.getbbox(text)
    tile = Image.new("RGB", (max(1, round(box[2])), max(1, round(box[3]) + 2)), BACKGROUND)
    ImageDraw.Draw(tile).text((0, 0), text, INK, font)
    turned = tile.rotate(90, expand=True)
    image.paste(turned, (top_middle[0] - turned.width // 2, top_middle[1]))


def _fitting(text: str, font: ImageFont.FreeTypeFont, width: int) -> str:
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"


def _font(size: int) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size=size)
    assert isinstance(font, ImageFont.FreeTypeFont), "Pillow without FreeType"
    return font
