"""The loops of `norm_kernels` by torch's threads (see `thread_team`): a tile of rows and columns at a time.

Whoever is free takes the next tile. Each has a place for its sums, and those are added up in their order, by one
thread: results are those of one thread, to the bit, on any number of them.
"""

from __future__ import annotations

import numpy as np
from numba import carray

from barlowctl.kernel_cache import cfunc, njit
from barlowctl.model import thread_tiles as tiles
from barlowctl.model.norm_kernels import (
    BLOCK,
    KERNEL,
    add_block,
    add_product_block,
    keep_where_positive,
    pointer,
    rows_at_once,
    settle,
    settle_gradient,
    wide,
    write_gradient,
    write_sum,
    write_values,
)
from barlowctl.model.thread_tiles import TASK, floats, take, together

COLUMNS = 512  # of a tile whose values are added up
VALUES = 16384  # of a tile that is written, about
FIELDS = 16  # of a task
NEXT, TILES, ACROSS, DOWN, LOOPS, LENGTH, SUMS, SCALE, SLOPE, SHIFT, RECTIFIED, SOURCE, TARGET, OTHER, GRADIENT = range(
    15
)
"""A task, int64: the next tile, how many there are, and in a row and a column; then sizes and addresses."""

SHARED = {**tiles.SHARED, "fastmath": KERNEL["fastmath"]}


@njit(**KERNEL)
def row_of(task, name, part, first, count):
    """Some of the float32 values that a part has at an address, of as many as an inner loop is long."""
    return carray(floats(task[name] + 4 * (part * task[LENGTH] + first)), (count,))


@cfunc(TASK, **SHARED)
def add_tiles(address):
    """Sums of blocks of rows, and some of their columns: see `add_block`, or with a gradient `add_product_block`."""
    task = carray(address, (FIELDS,))
    loops, length = task[LOOPS], task[LENGTH]
    while True:
        tile = take(address, NEXT)
        if tile >= task[TILES]:
            return
        column, block = tile % task[ACROSS] * COLUMNS, tile // task[ACROSS]
        part, first = block // task[DOWN], block % task[DOWN] * BLOCK
        columns, count = min(COLUMNS, length - column), min(BLOCK, loops - first)
        begin = 2 * ((part * loops + first) * length + column)
        shift = row_of(task, SHIFT, part, column, columns)
        if task[GRADIENT] != 0:
            g, x, y = task[GRADIENT] + begin, task[SOURCE] + begin, task[OTHER] + begin
            sums = add_product_block(g, x, y, count, length, columns, shift, task[RECTIFIED] != 0)
        else:
            sums = add_block(task[SOURCE] + begin, count, length, columns, shift)
        for which in range(2):
            row_of(task, SUMS, 2 * block + which, column, columns)[:] = sums[which]


@cfunc(TASK, **SHARED)
def write_tiles(address):
    """Results of some rows: see `write_values` and `write_sum`, or with a gradient `write_gradient`."""
    task = carray(address, (FIELDS,))
    loops, length = task[LOOPS], task[LENGTH]
    while True:
        tile = take(address, NEXT)
        if tile >= task[TILES]:
            return
        part, first = tile // task[DOWN], tile % task[DOWN] * task[ACROSS]
        count = min(task[ACROSS], loops - first)
        begin = 2 * (part * loops + first) * length
        scale, shift = row_of(task, SCALE, part, 0, length), row_of(task, SHIFT, part, 0, length)
        x, other, target = task[SOURCE] + begin, task[OTHER] + begin, task[TARGET] + begin
        if task[GRADIENT] != 0:
            slope, rectified = row_of(task, SLOPE, part, 0, length), task[RECTIFIED] != 0
            write_gradient(task[GRADIENT] + begin, x, other, target, count, length, scale, slope, shift, rectified)
        elif task[OTHER] != 0:
            write_sum(x, other, target, count, length, scale, shift)
        else:
            write_values(x, target, count, length, scale, shift, task[RECTIFIED] != 0)


@cfunc(TASK, **SHARED)
def keep_tiles(address):
    """See `keep_where_positive`."""
    task = carray(address, (FIELDS,))
    while True:
        tile = take(address, NEXT)
        if tile >= task[TILES]:
            return
        begin, count = 2 * tile * VALUES, min(VALUES, task[LENGTH] - tile * VALUES)
        keep_where_positive(task[GRADIENT] + begin, task[OTHER] + begin, task[TARGET] + begin, count)


@njit(**KERNEL)
def add_up(task, team, threads, parts, sums, add):
    """Sums of all tiles, float32 (parts, blocks, 2, length)."""
    task[DOWN] = sums.shape[1]
    task[ACROSS] = (task[LENGTH] + COLUMNS - 1) // COLUMNS
    task[NEXT], task[TILES] = 0, parts * task[DOWN] * task[ACROSS]
    together(team, add, task.ctypes.data, threads)


@njit(**KERNEL)
def write(task, team, threads, parts, function):
    """Results of all tiles."""
    task[ACROSS] = max(1, VALUES // task[LENGTH])
    task[DOWN] = (task[LOOPS] + task[ACROSS] - 1) // task[ACROSS]
    task[NEXT], task[TILES] = 0, parts * task[DOWN]
    together(team, function, task.ctypes.data, threads)


@njit(**KERNEL)
def total_of(sums, which, total):
    """Adds up the sums of a part's blocks `(blocks, 2, length)`, in the order of one thread."""
    width = len(total)
    for block in range(sums.shape[0]):
        for row in range(sums.shape[2] // width):
            values = sums[block, which, row * width : (row + 1) * width]
            for c in range(width):
                total[c] += values[c]


@njit(**KERNEL)
def normalize_together(
    crew, work, source, other, target, shape, weight, bias, eps, rectified, mean, inverse, running, momentum
):
    """See `normalize`. crew: see `crew_of`; work: see `work_of`."""
    team, threads, add, write_results, _ = crew
    task, sums, rows_of_parts = work
    parts, rows, width = shape
    scale, shift = rows_of_parts[0], rows_of_parts[2]
    for part in range(parts):
        first = carray(pointer(source + 2 * part * rows * width), (width,))
        for j in range(sums.shape[3]):
            shift[part, j] = wide(first[j % width])  # near the mean, so that squares do not hide the variance
    task[SOURCE], task[OTHER], task[TARGET], task[RECTIFIED], task[GRADIENT] = source, other, target, rectified, 0
    add_up(task, team, threads, parts, sums, add)
    for part in range(parts):
        total, squares = np.zeros(width), np.zeros(width)
        total_of(sums[part], 0, total)
        total_of(sums[part], 1, squares)
        settle(
            total,
            squares,
            rows,
            weight,
            bias,
            eps,
            mean[part],
            inverse[part],
            running,
            momentum,
            scale[part],
            shift[part],
        )
    write(task, team, threads, parts, write_results)


@njit(**KERNEL)
def differentiate_together(
    crew, work, gradient, source, result, target, shape, weight, mean, inverse, rectified, of_weight, of_bias
):
    """See `differentiate`. crew, work: as of `normalize_together`."""
    team, threads, add, write_results, _ = crew
    task, sums, rows_of_parts = work
    parts, rows, width = shape
    scale, slope, shift = rows_of_parts[0], rows_of_parts[1], rows_of_parts[2]
    for part in range(parts):
        for j in range(sums.shape[3]):
            shift[part, j] = mean[part, j % width]
    task[SOURCE], task[OTHER], task[TARGET] = source, result, target
    task[GRADIENT], task[RECTIFIED] = gradient, rectified
    add_up(task, team, threads, parts, sums, add)
    for part in range(parts):
        total, product = np.zeros(width), np.zeros(width)
        total_of(sums[part], 0, total)
        total_of(sums[part], 1, product)
        centre = shift[part].copy()
        settle_gradient(
            total,
            product,
            rows,
            weight,
            centre,
            inverse[part],
            of_weight,
            of_bias,
            scale[part],
            slope[part],
            shift[part],
        )
    write(task, team, threads, parts, write_results)


@njit(**KERNEL)
def keep_together(crew, task, gradient, result, target, count):
    """See `keep_where_positive`. crew: as of `normalize_together`; task: int64 `(FIELDS,)`."""
    team, threads, _, _, keep = crew
    task[GRADIENT], task[OTHER], task[TARGET], task[LENGTH] = gradient, result, target, count
    task[NEXT], task[TILES] = 0, (count + VALUES - 1) // VALUES
    together(team, keep, task.ctypes.data, threads)


def crew_of(team: int, threads: int) -> tuple[int | None, ...]:
    """Who works: the address of a team, how many threads of it, and the addresses of what they are called with."""
    return team, threads, add_tiles.address, write_tiles.address, keep_tiles.address


def work_of(shape: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Memory of a batch norm of `shape`: a task, the sums of its tiles, and three rows of values of each part."""
    parts, rows, width = shape
    at_once = rows_at_once(rows, width)
    length, loops = at_once * width, rows // at_once
    task = np.zeros(FIELDS, np.int64)
    sums = np.empty((parts, -(-loops // BLOCK), 2, length), np.float32)
    values = np.empty((3, parts, length), np.float32)
    task[LOOPS], task[LENGTH], task[SUMS] = loops, length, sums.ctypes.data
    task[SCALE], task[SLOPE], task[SHIFT] = (row.ctypes.data for row in values)
    return task, sums, values
