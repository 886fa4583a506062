"""Pictures of what was detected: an image with its annotated objects, and beside it with its detections."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from barlowctl.detect.annotations import Annotation, DetectionImages
from barlowctl.detect.detections import Detections
from barlowctl.detect.regions import decoded, region_of_outline
from barlowctl.plots.images import save_image
from barlowctl.plots.style import INK, PAPER, SMALL, TEXT, Color, class_color
from barlowctl.plots.text import drawable, fitted, font

SCORE = 0.5
"""Detections below it are not drawn: a detector gives a hundred of every image."""
SMALLEST = 320
"""Pixels: images whose long side is shorter are enlarged by a whole number."""
_MASK_SHARE = 0.45
_CAPTION, _GAP = 22, 8


class Mark(NamedTuple):
    """One object to be drawn. box: in pixels of the image. mask: bool (H, W) or None."""

    box: tuple[float, float, float, float]
    label: int
    text: str
    mask: np.ndarray | None = None


def save_pictures(
    folder: Path,
    images: DetectionImages,
    predictions: Sequence[Detections],
    positions: Sequence[int],
    *,
    score: float = SCORE,
) -> list[Path]:
    """Write a picture of each of some images: on the left what is annotated, on the right what was detected.

    Args:
        predictions: of every image, in the order of positions. positions: which images are drawn.
        score: the least of a detection that is drawn.

    Returns:
        The files, `POSITION-NAME.jpg`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for position in positions:
        pixels, annotation, detections = images.image(position), images.annotation(position), predictions[position]
        size = images.size(position)
        sides = [
            (f"{Path(images.name(position)).name}, annotated", annotated_marks(annotation, images.classes, size)),
            (detected_caption(detections, score), detected_marks(detections, images.classes, score)),
        ]
        path = folder / f"{position}-{images.file(position).stem}.jpg"
        save_image(beside_one_another(pixels, sides, len(images.classes)), path, quality=92)
        files.append(path)
    return files


def annotated_marks(annotation: Annotation, classes: Sequence[str], size: tuple[int, int]) -> list[Mark]:
    """The objects of an annotation; crowds and difficult ones say so. size: height and width."""
    marks = []
    for number, (box, label) in enumerate(zip(annotation.boxes.tolist(), annotation.labels.tolist(), strict=True)):
        left, top, right, bottom = box
        notes = [name for name, of in (("crowd", annotation.crowd), ("difficult", annotation.difficult)) if of[number]]
        mask, region = None, annotation.rles[number]
        if region is None and annotation.polygons is not None and annotation.polygons[number]:
            region = region_of_outline(annotation.polygons[number], *size)
        if region is not None:
            mask = decoded(region)
        marks.append(Mark((left, top, right, bottom), label, ", ".join([classes[label], *notes]), mask))
    return marks


def detected_caption(detections: Detections, score: float = SCORE) -> str:
    """From which score on they are drawn; where none is, how near the best one came."""
    best = max(detections.scores.tolist(), default=0.0)
    if best >= score:
        return f"detected, score from {score:g} on"
    return f"none detected, best score {best:.2g} of {score:g}" if best else "none detected"


def detected_marks(detections: Detections, classes: Sequence[str], score: float = SCORE) -> list[Mark]:
    """The detections from a score on, the best last: it is drawn over the others."""
    scores = detections.scores.tolist()
    marks = []
    for number in sorted(range(len(scores)), key=lambda number: scores[number]):
        if scores[number] >= score:
            left, top, right, bottom = detections.boxes[number].tolist()
            label, region = int(detections.labels[number]), detections.masks[number]
            mask = None if region is None else decoded(region)
            marks.append(Mark((left, top, right, bottom), label, f"{classes[label]} {scores[number]:.2f}", mask))
    return marks


def beside_one_another(pixels: np.ndarray, sides: Sequence[tuple[str, Sequence[Mark]]], classes: int) -> Image.Image:
    """The image once for each (caption, marks)."""
    drawn = [draw_marks(pixels, marks, classes) for _, marks in sides]
    width, height = drawn[0].size
    picture = Image.new("RGB", (len(drawn) * (width + _GAP) + _GAP, height + _CAPTION + _GAP), PAPER)
    pen, letters = ImageDraw.Draw(picture), font(TEXT, (caption for caption, _ in sides))
    for column, ((caption, _), image) in enumerate(zip(sides, drawn, strict=True)):
        left = _GAP + column * (width + _GAP)
        pen.text((left, _CAPTION // 2), fitted(caption, letters, width), INK, letters, anchor="lm")
        picture.paste(image, (left, _CAPTION))
    return picture


def draw_marks(pixels: np.ndarray, marks: Sequence[Mark], classes: int) -> Image.Image:
    """An image (H, W, 3) with masks, boxes and names drawn over it, in a colour for each class."""
    shaded = pixels.astype(np.float32)
    for mark in marks:
        if mark.mask is not None:
            shade = _MASK_SHARE * np.array(class_color(mark.label, classes), dtype=np.float32)
            shaded[mark.mask] = (1 - _MASK_SHARE) * shaded[mark.mask] + shade
    scale = max(1, -(-SMALLEST // max(pixels.shape[:2])))
    image = Image.fromarray((shaded + 0.5).astype(np.uint8))
    image = image.resize((image.width * scale, image.height * scale), Image.Resampling.NEAREST)
    pen = ImageDraw.Draw(image)
    line = max(2, round(max(image.size) / 400))
    for mark in marks:
        left, top, right, bottom = (edge * scale for edge in mark.box)
        corners = (left, top, max(right - 1, left), max(bottom - 1, top))
        pen.rectangle(corners, outline=class_color(mark.label, classes), width=line)
    for mark in marks:
        corner = (mark.box[0] * scale, mark.box[1] * scale)
        _draw_name(pen, image, mark.text, corner, class_color(mark.label, classes))
    return image


def _draw_name(
    pen: ImageDraw.ImageDraw, image: Image.Image, text: str, corner: tuple[float, float], color: Color
) -> None:
    """White on the colour of the class, above a box, or within it where there is no room."""
    letters = font(max(SMALL, max(image.size) / 55), [text])
    text = drawable(text, letters)
    width, height = letters.getlength(text) + 6, letters.size + 4
    left = min(max(corner[0], 0), max(image.width - width, 0))
    top = corner[1] - height if corner[1] >= height else max(corner[1], 0)
    pen.rectangle((left, top, left + width, top + height), fill=color)
    pen.text((left + 3, top + height / 2), text, PAPER, letters, anchor="lm")
