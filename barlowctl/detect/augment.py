"""An image and its objects, resized and perhaps flipped: detectron2's `ResizeShortestEdge` and `RandomFlip`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from barlowctl.data.views import streams
from barlowctl.detect.annotations import Annotation, Polygons

SLOT_SHORT_SIDE, SLOT_FLIP = 0, 1
SMALLEST_SIDE = 1e-5
"""Of a box that is trained on, in pixels (detectron2's `filter_empty_instances`)."""


class Distortion(NamedTuple):
    """height and width of the resized image. flip: left and right change places."""

    height: int
    width: int
    flip: bool


def image_key(seed: int, iteration: int, position: int, occurrence: int = 0) -> int:
    """The key of all draws of an image in an iteration, 64 bits. occurrence: times that it was there before."""
    return int(streams.stream_key(seed, iteration, position, occurrence))


def draw_distortion(
    key: int, size: tuple[int, int], short_sides: Sequence[int], longest: int, flip: float
) -> Distortion:
    """What happens to an image of a size (height, width): one of the short sides; flipped with probability `flip`."""
    stream = np.uint64(key)
    short = short_sides[streams.below(stream, SLOT_SHORT_SIDE, len(short_sides))]
    height, width = resized_size(*size, short, longest)
    return Distortion(height, width, bool(streams.uniform(stream, SLOT_FLIP) < flip))


def resized_size(height: int, width: int, short: int, longest: int) -> tuple[int, int]:
    """Height and width with a short side of `short`, the long side at most `longest`; halves are rounded up."""
    scale = short / min(height, width)
    new_height, new_width = (float(short), scale * width) if height < width else (scale * height, float(short))
    if max(new_height, new_width) > longest:
        scale = longest / max(new_height, new_width)
        new_height, new_width = new_height * scale, new_width * scale
    return max(1, int(new_height + 0.5)), max(1, int(new_width + 0.5))


def distort_image(pixels: np.ndarray, distortion: Distortion) -> Tensor:
    """uint8 (H, W, 3) to uint8 (3, H', W'): Pillow's bilinear filter on bytes, which averages where it shrinks."""
    size = (distortion.width, distortion.height)
    resized = np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR))
    if distortion.flip:
        resized = resized[:, ::-1]
    return torch.from_numpy(np.ascontiguousarray(resized.transpose(2, 0, 1)))


def distort_objects(
    annotation: Annotation, size: tuple[int, int], distortion: Distortion
) -> tuple[np.ndarray, np.ndarray, Polygons | None]:
    """Boxes float32 (n, 4), labels (n,) and outlines of the objects to train on, in the distorted image.

    Crowds are left out. Boxes are cut off at the image's edge, outlines are not; boxes that are nothing are left out.

    Args:
        size: height and width before.
    """
    height, width, flip = distortion
    scale = np.array([width / size[1], height / size[0]])
    corners = annotation.boxes.astype(np.float64).reshape(-1, 2, 2) * scale
    if flip:
        corners[..., 0] = width - corners[:, ::-1, 0]
    boxes = corners.clip(0, np.array([width, height])).reshape(-1, 4)
    sides = boxes[:, 2:] - boxes[:, :2]
    usable = (sides > SMALLEST_SIDE).all(axis=1) & ~annotation.crowd
    polygons = None
    if annotation.polygons is not None:
        polygons = tuple(
            tuple(_moved(part, scale, width if flip else None) for part in annotation.polygons[number])
            for number in np.flatnonzero(usable)
        )
    return boxes[usable].astype(np.float32), annotation.labels[usable], polygons


def _moved(corners: np.ndarray, scale: np.ndarray, width: int | None) -> np.ndarray:
    """(m, 2) scaled, and mirrored in an image of this width."""
    moved = corners * scale
    if width is not None:
        moved[:, 0] = width - moved[:, 0]
    return moved.astype(np.float32)
