"""Masks of objects: polygons to the mask head's targets, its output to the pixels of an image, run lengths."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from barlowctl.detect.regions import pycocotools_mask

SMALLEST_SIDE = 0.1
"""Pixels: boxes that are thinner are taken to be so wide (detectron2)."""
CHUNK_PIXELS = 1 << 27
"""Pixels of masks that are pasted at once: half a GiB."""


def rasterize(parts: Sequence[np.ndarray], box: Sequence[float], size: int) -> np.ndarray:
    """What of a box the polygons cover, uint8 `(size, size)`: detectron2's `rasterize_polygons_within_box`.

    Args:
        parts: of one object, each `(m, 2)`: x, y in pixels of the image. box: left, top, right, bottom.
    """
    masks = pycocotools_mask()
    left, top, right, bottom = (float(value) for value in box)
    scale = np.array([size / max(right - left, SMALLEST_SIDE), size / max(bottom - top, SMALLEST_SIDE)])
    corners = [((np.asarray(part, dtype=np.float64) - (left, top)) * scale).reshape(-1).tolist() for part in parts]
    return np.asarray(masks.decode(masks.merge(masks.frPyObjects(corners, size, size))))


def mask_targets(polygons: Sequence[Sequence[np.ndarray]], boxes: Tensor, size: int) -> Tensor:
    """The masks of objects within boxes, uint8 `(n, size, size)` on the boxes' device.

    Args:
        polygons: of the object of each box. boxes: `(n, 4)`.
    """
    targets = np.zeros((len(boxes), size, size), dtype=np.uint8)
    for target, parts, box in zip(targets, polygons, boxes.detach().cpu().tolist(), strict=True):
        target[:] = rasterize(parts, box, size)
    return torch.from_numpy(targets).to(boxes.device)


def paste(masks: Tensor, boxes: Tensor, height: int, width: int, threshold: float = 0.5) -> Tensor:
    """Masks of boxes to masks of the image, bool `(n, height, width)`.

    A pixel takes the bilinear value at its centre of the mask stretched over the box, 0 outside the mask, as
    detectron2's `paste_masks_in_image` does with `grid_sample`. On an axis-aligned box that is a product of weights of
    rows and of columns, so two small matrix products do it.

    Args:
        masks: `(n, M, M)`, in [0, 1]. boxes: `(n, 4)` in pixels of the image.
    """
    size = masks.shape[-1]
    step = max(1, CHUNK_PIXELS // max(1, height * width))
    pasted = torch.empty(len(masks), height, width, dtype=torch.bool, device=masks.device)
    for begin in range(0, len(masks), step):
        chunk, box = masks[begin : begin + step].float(), boxes[begin : begin + step].float()
        columns = _weights(box[:, 0], box[:, 2], width, size)
        rows = _weights(box[:, 1], box[:, 3], height, size)
        pasted[begin : begin + step] = rows @ chunk @ columns.mT >= threshold
    return pasted


def _weights(begin: Tensor, end: Tensor, pixels: int, cells: int) -> Tensor:
    """Bilinear weights `(n, pixels, cells)` of the cells that stretch from `begin` to `end`, at the pixels' centres."""
    centres = torch.arange(pixels, device=begin.device) + 0.5
    positions = (centres - begin[:, None]) / (end - begin).clamp_min(1e-6)[:, None] * cells - 0.5
    numbers = torch.arange(cells, device=begin.device)
    return (1.0 - (positions[:, :, None] - numbers).abs()).clamp_min(0.0)


def run_lengths(masks: Tensor) -> list[dict[str, Any]]:
    """COCO's run lengths of bool masks `(n, H, W)`: `size` and, as text, `counts`."""
    functions = pycocotools_mask()
    encoded = []
    for mask in masks.to("cpu", torch.uint8).numpy():
        lengths = functions.encode(np.asfortranarray(mask))
        encoded.append({"size": [int(side) for side in lengths["size"]], "counts": lengths["counts"].decode("ascii")})
    return encoded
