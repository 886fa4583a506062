"""Pictures of what was detected: an image with its annotated objects, and beside it with its detections."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from barlowctl.detect.annotations import Annotation, DetectionImages
from barlowctl.detect.detections import Detections
from barlowctl.detect.regions import decoded, region_of_outline
from barlowctl.plots.images import save_image
from barlowctl.plots.marks import Box, overlap, unique_colors
from barlowctl.plots.style import INK, PAPER, SMALL, TEXT, Color, against
from barlowctl.plots.text import fitted, font, suited

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
    colors = unique_colors([mark.label for _, marks in sides for mark in marks], classes)
    drawn = [draw_marks(pixels, marks, colors) for _, marks in sides]
    width, height = drawn[0].size
    picture = Image.new("RGB", (len(drawn) * (width + _GAP) + _GAP, height + _CAPTION + _GAP), PAPER)
    pen, letters = ImageDraw.Draw(picture), font(TEXT, (caption for caption, _ in sides))
    for column, ((caption, _), image) in enumerate(zip(sides, drawn, strict=True)):
        left = _GAP + column * (width + _GAP)
        pen.text((left, _CAPTION // 2), fitted(caption, letters, width), INK, letters, anchor="lm")
        picture.paste(image, (left, _CAPTION))
    return picture


def draw_marks(pixels: np.ndarray, marks: Sequence[Mark], colors: Mapping[int, Color]) -> Image.Image:
    """An image (H, W, 3) with masks, boxes and names drawn over it. colors: of each class that a mark has."""
    shaded = pixels.astype(np.float32)
    for mark in marks:
        if mark.mask is not None:
            shade = _MASK_SHARE * np.array(colors[mark.label], dtype=np.float32)
            shaded[mark.mask] = (1 - _MASK_SHARE) * shaded[mark.mask] + shade
            shaded[_edge(mark.mask)] = colors[mark.label]  # tells masks of one class apart where they touch
    scale = max(1, -(-SMALLEST // max(pixels.shape[:2])))
    image = Image.fromarray((shaded + 0.5).astype(np.uint8))
    image = image.resize((image.width * scale, image.height * scale), Image.Resampling.NEAREST)
    pen = ImageDraw.Draw(image)
    line = max(2, round(max(image.size) / 400))
    boxes = [_corners(mark, scale, image.size) for mark in marks]
    for mark, (left, top, right, bottom) in zip(marks, boxes, strict=True):
        color = colors[mark.label]
        around = (left - 1, top - 1, right + 1, bottom + 1)
        pen.rectangle(around, outline=against(color))  # a hairline shows it on a ground of its own colour
        pen.rectangle((left, top, right, bottom), outline=color, width=line)
    _draw_names(pen, image.size, marks, boxes, colors)
    return image


def _edge(mask: np.ndarray) -> np.ndarray:
    """Pixels of a mask (H, W) that have a neighbour outside of it; what is beyond the image is none."""
    wide = np.pad(mask, 1, mode="edge")
    inner: np.ndarray = wide[:-2, 1:-1] & wide[2:, 1:-1] & wide[1:-1, :-2] & wide[1:-1, 2:]
    return mask & ~inner


def _corners(mark: Mark, scale: int, size: tuple[int, int]) -> Box:
    """The outermost pixels of a mark's box, within the image."""
    left, top, right, bottom = (edge * scale for edge in mark.box)
    left, top = min(max(left, 0), size[0] - 1), min(max(top, 0), size[1] - 1)
    return left, top, min(max(right - 1, left), size[0] - 1), min(max(bottom - 1, top), size[1] - 1)


def _draw_names(
    pen: ImageDraw.ImageDraw, size: tuple[int, int], marks: Sequence[Mark], boxes: Sequence[Box],
    colors: Mapping[int, Color],
) -> None:  # fmt: skip
    """Names on their classes' colours, each where no other is as far as there is room, the last mark's first."""
    letters = font(max(SMALL, max(size) / 55), [mark.text for mark in marks])
    fonts = [suited(mark.text, letters) for mark in marks]
    texts = [fitted(mark.text, own, size[0] - 6) for mark, own in zip(marks, fonts, strict=True)]
    height, areas = letters.size + 4, dict[int, Box]()
    for number in reversed(range(len(marks))):
        candidates = _beside(boxes[number], fonts[number].getlength(texts[number]) + 6, height, size)
        free = (area for area in candidates if not any(overlap(area, other) for other in areas.values()))
        areas[number] = next(free, candidates[0])
    for number, (mark, text, own) in enumerate(zip(marks, texts, fonts, strict=True)):
        left, top, right, bottom = areas[number]
        pen.rectangle((left, top, right, bottom), fill=colors[mark.label])
        pen.text((left + 3, (top + bottom) / 2), text, against(colors[mark.label]), own, anchor="lm")


def _beside(box: Box, width: float, height: float, size: tuple[int, int]) -> list[Box]:
    """Where the name of a box may be, the better place first: above it, or within it where there is no room; below."""
    corners = [
        (left, top) for top in (box[1] - height, box[1], box[3] - height, box[3]) for left in (box[0], box[2] - width)
    ]
    inside = [
        (min(max(left, 0), max(size[0] - width, 0)), top) for left, top in corners if 0 <= top <= size[1] - height
    ]
    places = inside or [(min(max(box[0], 0), max(size[0] - width, 0)), max(min(box[1], size[1] - height), 0))]
    return [(left, top, left + width, top + height) for left, top in places]
