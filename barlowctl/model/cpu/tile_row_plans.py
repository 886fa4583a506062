"""What the kernels of `tiles.row_products` are called with, except addresses of tensors: worked out once for a shape.

A network has few shapes and takes thousands of steps.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from barlowctl.kernels.scratchpad import whole_lines
from barlowctl.kernels.tiles import row_packing as fields
from barlowctl.kernels.tiles import row_products as kernels
from barlowctl.kernels.tiles.vectors import PART
from barlowctl.model.cpu import tile_products
from barlowctl.model.cpu.tile_products import STEP

MOST_ROWS, AHEAD = 512, 256
"""Of a result that a thread takes at a time; and that are laid out before they are taken, if they are narrow."""
LAID = 24 * 2**10
"""Bytes of rows that are laid out, which stay in the processor's first cache."""
FEWEST, MOST_PIECES = 1024, 8
"""Rows of a piece of the gradient of a weight, and its pieces, each summed by itself."""


class Chunk(NamedTuple):
    """What is taken at a time of a piece: rows, the fewest and the most; and bytes, in the second cache.

    factors: of all, or so. strip: of those that are taken again and again.
    """

    fewest: int
    most: int
    factors: int
    strip: int


BY_TILES, BY_VECTORS = Chunk(256, 1024, 2**20, 2**19), Chunk(128, 512, 2**18, 2**17)
"""Vectors leave room in that cache for the rows that come next."""


class Plan(NamedTuple):
    """function: of all pieces, by its address. task: without addresses. room: bytes that each thread has.

    sums: of the gradient of a weight, what the kernel writes: (pieces, results, numbers of each).
    """

    function: int
    task: np.ndarray
    room: int
    sums: tuple[int, int, int] = (0, 0, 0)


@lru_cache(maxsize=1024)
def of_product(
    shape: tuple[int, ...],
    out: int,
    size: tuple[int, ...],
    stride: tuple[int, int],
    turned: bool,
    added: tuple[int, ...],
    threads: int,
) -> Plan:
    """Of a 1 x 1 convolution of a map of a shape, with `out` results. The rest: see `task_of`."""
    task = task_of(shape, (out, 1, 1), size, stride, (0, 0), turned, added)
    padded, wide, rows, ahead = _numbers(task, "PADDED", "OUT_PADDED", "COUNT", "AHEAD")
    task[fields.PIECE] = min(MOST_ROWS, -(-rows // (threads * STEP)) * STEP)
    room = 2 * (4 * STEP * STEP + 2 * padded * wide + ahead * padded + 2 * wide) + 1024
    return Plan(kernels.multiply_pieces.address, task, whole_lines(room))


@lru_cache(maxsize=1024)
def of_gradient(
    shape: tuple[int, ...],
    weight: tuple[int, ...],
    size: tuple[int, ...],
    stride: tuple[int, int],
    padding: tuple[int, int],
    threads: int,
) -> Plan:
    """Of the gradient of a weight: see `task_of`."""
    task = task_of(shape, weight, size, stride, padding)
    padded, out, rows, ahead, summed = _numbers(task, "PADDED", "OUT_PADDED", "COUNT", "AHEAD", "SUMMED")
    pieces = max(1, min(MOST_PIECES, rows // max(FEWEST, padded * out // (STEP // 2))))
    piece = -(-rows // (pieces * STEP)) * STEP
    pieces = -(-rows // piece)
    across = max(1, min(out // STEP, -(-threads // pieces)))
    at_once = BY_TILES if tile_products.has_tiles() else BY_VECTORS
    fitting = at_once.factors // (2 * (padded + out // across)) // STEP * STEP
    chunk = min(piece, max(at_once.fewest, min(at_once.most, fitting)))
    task[fields.PIECE], task[fields.CHUNK], task[fields.ACROSS] = piece, chunk, across
    if task[fields.LIES] == fields.AS_TAKEN and padded > summed:
        task[fields.LIES] = fields.IN_ROWS
    task[fields.STRIP] = max(1, at_once.strip // (2 * STEP * chunk))
    room = 2 * (STEP * STEP + STEP * out + ahead * padded + chunk * (padded + out)) + 128
    if chunk < piece and not tile_products.has_tiles():
        room += 4 * padded * out
    return Plan(kernels.correlate_pieces.address, task, whole_lines(room), (pieces, out, padded))


def task_of(
    shape: tuple[int, ...],
    weight: tuple[int, ...],
    size: tuple[int, ...],
    stride: tuple[int, int],
    padding: tuple[int, int],
    turned: bool = False,
    added: tuple[int, ...] = (),
) -> np.ndarray:
    """A task without addresses, and without what depends on the threads.

    Args:
        shape: of a map `(n, c, h, w)`. weight: results, and the kernel. size: of the result.
        added: height and width of maps to which results are added, and the steps between the pixels that they are of.
    """
    (n, c, height, width), (out, *kernel) = shape, weight
    summed = c * kernel[0] * kernel[1]
    padded, wide = (-(-number // STEP) * STEP for number in (summed, out))
    names = ("map_height", "map_width", "step_down", "step_right")
    return fields.task_of(
        count=n * size[0] * size[1],
        ahead=max(STEP, min(AHEAD, LAID // (2 * padded) // STEP * STEP)),
        out=out,
        turned=int(turned),
        height=height,
        width=width,
        channels=c,
        high=size[0],
        wide=size[1],
        kernel_height=kernel[0],
        kernel_width=kernel[1],
        top=padding[0],
        left=padding[1],
        stride_down=stride[0],
        stride_across=stride[1],
        summed=summed,
        padded=padded,
        out_padded=wide,
        gradient_lies=int(wide == out),
        lies=_lies(kernel, stride, summed),
        **{"adds": int(bool(added)), **dict(zip(names, added, strict=False))},
        configuration=tile_products.configuration_at(),
    )


def _lies(kernel: list[int], stride: tuple[int, int], summed: int) -> int:
    if kernel != [1, 1] or stride != (1, 1):
        return fields.SCATTERED
    return fields.IN_ROWS if summed % (STEP if tile_products.has_tiles() else PART) else fields.AS_TAKEN


def _numbers(task: np.ndarray, *names: str) -> Any:
    return (int(task[getattr(fields, name)]) for name in names)
