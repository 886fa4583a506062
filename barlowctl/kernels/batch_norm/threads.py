"""The same loops by torch's threads (see `thread_team`): a tile of rows and columns at a time.

Whoever is free takes the next tile. Each has a place for its sums, and those are added up in their order, by one
thread: results are those of one thread, to the bit, on any number of them.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from numba import carray

from barlowctl.kernel_cache import cfunc, njit
from barlowctl.kernels import thread_tiles as tiles
from barlowctl.kernels.batch_norm import loops as norm_kernels
from barlowctl.kernels.batch_norm import vectors as norm_vectors
from barlowctl.kernels.batch_norm.loops import (
    BLOCK,
    estimate_mean,
    rows_at_once,
    settle,
    settle_factors,
    settle_gradient,
)
from barlowctl.kernels.compiling import KERNEL
from barlowctl.kernels.number_formats import LIKE, itemsize
from barlowctl.kernels.thread_tiles import TASK, call, floats, longs, take

COLUMNS = 512  # of a tile whose values are added up
VALUES = 16384  # of a tile that is written, about
FIELDS = 19  # of a task
(
    NEXT, TILES, ACROSS, LOOPS, LENGTH, SOURCE, TARGET, OTHER, GRADIENT, MASKED, MARKS, RECTIFIED,
    SUMS, CENTRE, SCALE, SHIFT, SLOPE, OFFSET,
) = range(18)  # fmt: skip
"""A task, int64: the next tile, how many there are, and in a row of them; then sizes and addresses."""
ROWS = OFFSET - CENTRE + 1
"""Of a task: as many values as an inner loop has, each."""

SHARED = {**tiles.SHARED, "fastmath": KERNEL["fastmath"]}


@njit(**KERNEL)
def row_of(task, name, first, count):
    """Some of the float32 values at an address of a task."""
    return carray(floats(task[name] + 4 * first), (count,))


def loops_of(like):
    """The module whose loops are the faster ones for numbers in memory: of bfloat16, by their bits, the vectors."""
    return norm_vectors if norm_vectors.USABLE and isinstance(like, np.uint16) else norm_kernels


def _adding(like):
    kernels = loops_of(like)

    @cfunc(TASK, **SHARED)
    def add_tiles(address):
        """Sums of blocks of rows, and some of their columns: of values, or with a gradient of products."""
        task = carray(address, (FIELDS,))
        loops, length = task[LOOPS], task[LENGTH]
        while True:
            tile = take(address, NEXT)
            if tile >= task[TILES]:
                return
            column, block = tile % task[ACROSS] * COLUMNS, tile // task[ACROSS]
            columns, count = min(COLUMNS, length - column), min(BLOCK, loops - block * BLOCK)
            begin = itemsize(like) * (block * BLOCK * length + column)
            g, x, centre = task[GRADIENT] + begin, task[SOURCE] + begin, row_of(task, CENTRE, column, columns)
            if task[GRADIENT] == 0:
                sums = kernels.add_block(x, like, count, length, columns, centre)
            elif task[MASKED] != 0 and task[MARKS] != 0:
                bits, masked = task[MARKS] + begin // (8 * itemsize(like)), task[MASKED] + begin
                sums = kernels.add_marked_block(g, x, bits, masked, like, count, length, columns, centre)
            elif task[MASKED] != 0:
                y, masked = task[OTHER] + begin, task[MASKED] + begin
                sums = kernels.add_masked_block(g, x, y, masked, like, count, length, columns, centre)
            elif task[RECTIFIED] != 0:
                scale, shift = row_of(task, SCALE, column, columns), row_of(task, SHIFT, column, columns)
                sums = kernels.add_rectified_block(g, x, like, count, length, columns, centre, scale, shift)
            else:
                sums = kernels.add_product_block(g, x, like, count, length, columns, centre)
            for which in range(2):
                row = row_of(task, SUMS, (2 * block + which) * length + column, columns)
                for c in range(columns):
                    row[c] = sums[which][c]

    return add_tiles


def _writing(like):
    kernels = loops_of(like)

    @cfunc(TASK, **SHARED)
    def write_tiles(address):
        """Results of some rows, or with a gradient that of the source. The last is first: it was read last."""
        task = carray(address, (FIELDS,))
        loops, length = task[LOOPS], task[LENGTH]
        scale, shift = row_of(task, SCALE, 0, length), row_of(task, SHIFT, 0, length)
        slope, offset = row_of(task, SLOPE, 0, length), row_of(task, OFFSET, 0, length)
        rectified = task[RECTIFIED] != 0
        while True:
            tile = task[TILES] - 1 - take(address, NEXT)
            if tile < 0:
                return
            first = tile * task[ACROSS]
            count = min(task[ACROSS], loops - first)
            begin = itemsize(like) * first * length
            g, x, target = task[GRADIENT] + begin, task[SOURCE] + begin, task[TARGET] + begin
            if task[GRADIENT] != 0:
                kernels.write_gradient(g, x, target, like, count, length, scale, shift, slope, offset, rectified)
            elif task[MARKS] != 0:
                other, bits = task[OTHER] + begin, task[MARKS] + begin // (8 * itemsize(like))
                kernels.write_marked_sum(x, other, target, bits, like, count, length, scale, shift)
            elif task[OTHER] != 0:
                kernels.write_sum(x, task[OTHER] + begin, target, like, count, length, scale, shift)
            else:
                kernels.write_values(x, target, like, count, length, scale, shift, rectified)

    return write_tiles


@cache
def _functions(dtype: torch.dtype) -> tuple[int, ...]:
    """Addresses of the functions of C for numbers of a format, compiled when they are first used."""
    return _adding(LIKE[dtype]).address, _writing(LIKE[dtype]).address


def team_of(parallel: int | None, threads: int, dtype: torch.dtype) -> tuple[int, ...]:
    """Who works: a team (see `thread_team.team`), and the addresses of the functions that it is called with."""
    return parallel or 0, threads, *_functions(dtype)


@njit(**KERNEL)
def work_of(rows, width):
    """Memory of a batch norm: a task, the sums of its tiles `(blocks, 2, length)`, and rows of as many values."""
    at_once = rows_at_once(rows, width)
    length, loops = at_once * width, rows // at_once
    task = np.zeros(FIELDS, np.int64)
    sums = np.empty((-(-loops // BLOCK), 2, length), np.float32)
    values = np.empty((ROWS, length), np.float32)
    task[LOOPS], task[LENGTH], task[SUMS] = loops, length, sums.ctypes.data
    for row in range(ROWS):
        task[CENTRE + row] = values[row].ctypes.data
    return task, sums, values


@njit(**KERNEL)
def add_up(team, task, sums, total, other):
    """Sums of all tiles, then of all blocks, in their order."""
    task[ACROSS] = -(-task[LENGTH] // COLUMNS)
    task[TILES] = sums.shape[0] * task[ACROSS]
    call(team, team[2], task)
    width = len(total)
    for block in range(sums.shape[0]):
        for row in range(sums.shape[2] // width):
            values = sums[block, :, row * width : (row + 1) * width]
            for c in range(width):
                total[c] += values[0, c]
                other[c] += values[1, c]


@njit(**KERNEL)
def write(team, task):
    """Results of all tiles."""
    task[ACROSS] = max(1, VALUES // task[LENGTH])
    task[TILES] = -(-task[LOOPS] // task[ACROSS])
    call(team, team[3], task)


@njit(**KERNEL)
def vectors_of(addresses, parts, width):
    """float32 at the addresses of `parameters`: weight, bias, statistics (2, parts, width), and two more (width,)."""
    return (
        carray(floats(addresses[0]), (width,)),
        carray(floats(addresses[1]), (width,)),
        carray(floats(addresses[2]), (2, parts, width)),
        carray(floats(addresses[3]), (width,)),
        carray(floats(addresses[4]), (width,)),
    )


@njit(**KERNEL)
def count_parts(counted, parts):
    """Add parts to the int64 at an address that is not 0."""
    if counted != 0:
        carray(longs(counted), (1,))[0] += parts


@njit(**KERNEL)
def measure(team, task, sums, centre, like, rows, eps, mean, inverse, running, momentum):
    """mean, inverse = statistics of a part; see `normalize`."""
    width = len(mean)
    estimate_mean(task[SOURCE], like, rows, width, centre)
    total, squares = np.zeros(width), np.zeros(width)
    add_up(team, task, sums, total, squares)
    settle(total, squares, rows, eps, centre, mean, inverse, running, momentum)


@njit(**KERNEL)
def sum_rows(team, source, like, rows, width, out):
    """out (width,), float32 = the sum of rows.

    The centre is 0. It is read after the sums: numba frees an array after its last use, and a task has its address.
    """
    task, sums, values = work_of(rows, width)
    centre = values[0]
    for place in range(len(centre)):
        centre[place] = 0.0
    task[SOURCE] = source
    total, squares = np.zeros(width), np.zeros(width)
    add_up(team, task, sums, total, squares)
    result = carray(floats(out), (width,))
    for c in range(width):
        result[c] = total[c] + rows * centre[c]


@njit(**KERNEL)
def normalize(team, source, other, target, marks, like, shape, parameters, counted, eps, momentum, rectified):
    """target = (source - mean) inverse weight + bias, without what is negative where `rectified`.

    With an `other` that is not 0 its values are added, and what is negative then is left out; and with marks that are
    not 0 bits are written that say what is not 0 (see `loops.write_marked_sum`).

    Args:
        team: see `team_of`.
        shape: parts, rows, width, as of `source`; each part has statistics of its own.
        parameters: addresses of float32: weight and bias (width,); statistics (2, parts, width), written: the mean of
            a part's rows, and 1 / sqrt(variance + eps), which is `inverse`; running mean and unbiased variance
            (width,), moved by `momentum`, part after part.
        counted: the address of an int64 to which the parts are added; or 0.
    """
    parts, rows, width = shape
    count_parts(counted, parts)
    weight, bias, statistics, mean_so_far, variance_so_far = vectors_of(parameters, parts, width)
    running = mean_so_far, variance_so_far
    task, sums, values = work_of(rows, width)
    centre, scale, shift = values[0], values[1], values[2]
    task[RECTIFIED] = rectified
    for part in range(parts):
        begin, mean, inverse = itemsize(like) * part * rows * width, statistics[0, part], statistics[1, part]
        task[SOURCE], task[TARGET] = source + begin, target + begin
        task[OTHER] = other + begin if other != 0 else 0
        task[MARKS] = marks + part * rows * width // 8 if marks != 0 else 0
        measure(team, task, sums, centre, like, rows, eps, mean, inverse, running, momentum)
        settle_factors(weight, bias, mean, inverse, scale, shift)
        write(team, task)


@njit(**KERNEL)
def differentiate(team, gradient, source, result, marks, masked, target, like, shape, parameters, rectified):
    """target = the gradient of `source`, from that of `normalize`'s result.

    Args:
        team, shape, rectified: as of `normalize`.
        result: of a sum, or its marks instead; then `masked` is written: the gradient, and 0 where the result is 0.
            Otherwise all are 0.
        parameters: addresses of weight, bias and statistics, as of `normalize`; and of the gradients of weight and bias
            (width,), written.
    """
    parts, rows, width = shape
    weight, bias, statistics, of_weight, of_bias = vectors_of(parameters, parts, width)
    for c in range(width):
        of_weight[c], of_bias[c] = 0.0, 0.0
    task, sums, values = work_of(rows, width)
    centre, scale, shift, slope, offset = values[0], values[1], values[2], values[3], values[4]
    task[RECTIFIED] = rectified and masked == 0
    for part in range(parts):
        begin, mean, inverse = itemsize(like) * part * rows * width, statistics[0, part], statistics[1, part]
        task[GRADIENT], task[SOURCE], task[TARGET] = gradient + begin, source + begin, target + begin
        task[OTHER], task[MASKED] = (result + begin, masked + begin) if masked != 0 else (0, 0)
        task[MARKS] = marks + part * rows * width // 8 if marks != 0 else 0
        for first in range(0, len(centre), width):
            for c in range(width):
                centre[first + c] = mean[c]
        settle_factors(weight, bias, mean, inverse, scale, shift)
        total, product = np.zeros(width), np.zeros(width)
        add_up(team, task, sums, total, product)
        settle_gradient(total, product, rows, mean, inverse, of_weight, of_bias, scale, slope, offset)
        if masked != 0:
            task[GRADIENT] = masked + begin
        write(team, task)
