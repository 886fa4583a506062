"""Regions as run lengths (COCO's RLE), through pycocotools, and as polygons."""

from __future__ import annotations

from typing import Any

import numpy as np

from barlowctl.packages import required


def pycocotools_mask() -> Any:
    """The module pycocotools.mask.

    Raises:
        UserError: it is not installed, or does not work.
    """
    need = "outlines and COCO's metric need the package pycocotools"
    return required(need, "pycocotools.mask", extra="detection")[0]


def lengths_of(counts: Any) -> list[int] | None:
    """The lengths of runs outside and inside in turns, from numbers or COCO's text of them; None: they are neither.

    Text: each length in groups of five bits with a sixth that says whether more follow, from character 48 on; from the
    fourth on the difference to the one before last (`rleFrString` of COCO's maskApi.c).
    """
    if isinstance(counts, list):
        return counts if all(isinstance(length, int) and length >= 0 for length in counts) else None
    if not isinstance(counts, str):
        return None
    lengths: list[int] = []
    value = shift = 0
    for character in counts:
        bits = ord(character) - 48
        if not 0 <= bits < 64:
            return None
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            if bits & 16:
                value -= 1 << shift
            lengths.append(value + (lengths[-2] if len(lengths) > 2 else 0))
            value = shift = 0
    return lengths if shift == 0 and min(lengths, default=0) >= 0 else None


def is_region(region: Any, height: int, width: int) -> bool:
    """Whether these are run lengths that cover an image exactly: pycocotools does not look before it writes."""
    if not isinstance(region, dict) or region.get("size") != [height, width]:
        return False
    lengths = lengths_of(region.get("counts"))
    return lengths is not None and sum(lengths) == height * width


def compressed(region: dict[str, Any]) -> dict[str, Any]:
    """Run lengths as pycocotools works with them; a file may have plain numbers instead."""
    height, width = region["size"]
    if isinstance(region["counts"], list):
        return pycocotools_mask().frPyObjects(region, height, width)
    return region


def decoded(region: dict[str, Any]) -> np.ndarray:
    """bool (H, W): the pixels of a region."""
    return pycocotools_mask().decode(compressed(region)).astype(bool)


def region_of_outline(parts: Any, height: int, width: int) -> dict[str, Any]:
    """Run lengths of polygons, the parts of one object, as pycocotools rasterises them."""
    mask = pycocotools_mask()
    polygons = [np.asarray(part, dtype=np.float64).ravel().tolist() for part in parts]
    return mask.merge(mask.frPyObjects(polygons, height, width))


def outline_of_region(region: dict[str, Any]) -> list[np.ndarray]:
    """A region as polygons that cover the same pixels: rectangles, each (4, 2) float32, none over another.

    A rectangle is a run of pixels in a column, made wider while the next column has the same run.
    """
    columns = decoded(region).T
    edges = np.diff(np.pad(columns, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    tops, bottoms = np.argwhere(edges == 1), np.argwhere(edges == -1)  # in the same order: by column, then by row
    open_since: dict[tuple[int, int], int] = {}
    rectangles: list[tuple[int, int, int, int]] = []
    for column in range(len(columns) + 1):
        runs = (
            set(zip(tops[tops[:, 0] == column, 1].tolist(), bottoms[bottoms[:, 0] == column, 1].tolist(), strict=True))
            if column < len(columns)
            else set()
        )
        for run in [run for run in open_since if run not in runs]:
            rectangles.append((open_since.pop(run), run[0], column, run[1]))
        for run in runs:
            open_since.setdefault(run, column)
    return [
        np.array([[left, top], [right, top], [right, bottom], [left, bottom]], dtype=np.float32)
        for left, top, right, bottom in sorted(rectangles)
    ]
