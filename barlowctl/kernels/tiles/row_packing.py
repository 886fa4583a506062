"""Rows of bfloat16 as a processor's tiles read them (see `sums`): what pixels of a result see, and weights.

All is an address. Rows are taken 32 at a time; those that are missing from the last ones are zeros.
"""

from __future__ import annotations

import numpy as np
from numba import carray

from barlowctl.kernel_cache import njit
from barlowctl.kernels.compiling import KERNEL
from barlowctl.kernels.thread_tiles import clear, floats, new_task
from barlowctl.kernels.tiles.memory import LINE, ROWS, SIDE, pair_rows, round_row, turn
from barlowctl.kernels.tiles.packing import FACTOR, pack_turned_weights, pack_weights
from barlowctl.kernels.tiles.row_code import copy
from barlowctl.kernels.tiles.sums import HAS_TILES

FIELDS = 39  # of a task
(
    NEXT, SLOT, CONFIGURATION, X, GRADIENT, WEIGHTS, Y, ROOM, ROOM_SIZE, COUNT, PIECE, CHUNK, ACROSS, AHEAD, STRIP,
    OUT, TURNED, HEIGHT, WIDTH, CHANNELS, HIGH, WIDE, KERNEL_HEIGHT, KERNEL_WIDTH, STRIDE_DOWN, STRIDE_ACROSS, TOP,
    LEFT, SUMMED, PADDED, OUT_PADDED, LIES, GRADIENT_LIES, MAP_HEIGHT, MAP_WIDTH, STEP_DOWN, STEP_RIGHT, ADDS,
    BIASES,
) = range(FIELDS)  # fmt: skip
"""A task, int64: the next piece, and the next thread's place in the rooms; then addresses, and numbers.

COUNT: rows, of the (HIGH, WIDE) pixels of results, in images of (HEIGHT, WIDTH, CHANNELS). SUMMED: what a pixel sees,
and PADDED, OUT_PADDED that and OUT as multiples of 32. LIES: see below.
PIECE: rows of a piece. ACROSS: parts of its results, of a gradient. AHEAD: rows that are laid out before they are
taken. CHUNK: rows of a gradient whose factors are made at a time; STRIP: blocks of 32 columns that are taken at a time.
ADDS: results are added to the pixels, STEP_DOWN and STEP_RIGHT apart, of maps of (MAP_HEIGHT, MAP_WIDTH, OUT).
BIASES: 0, or the address of OUT numbers of float32 that are added to each row.
"""


SCATTERED, IN_ROWS, AS_TAKEN = range(3)
"""How LIES what pixels see: in several places; in rows, which are laid out; in rows that are taken as they lie."""


def task_of(**fields: int) -> np.ndarray:
    """A task."""
    return new_task(FIELDS, globals(), fields)


@njit(**KERNEL)
def lay_rows(source, first, count, width, padded, out):
    """out (32, padded) = rows of some width from the first on, and rows of zeros.

    What lies behind the width of a row is left as it is.
    """
    if count < SIDE:
        clear(out, SIDE * padded * 2)
    for row in range(count):
        copy(source + (first + row) * width * 2, out + row * padded * 2, width)


@njit(**KERNEL)
def lay_seen(task, first, count, out):
    """out (32, PADDED) = what pixels of results see from the first on, row by row of the kernel, and zeros.

    What lies behind SUMMED numbers of a row is left as it is.
    """
    height, width, channels, wide = task[HEIGHT], task[WIDTH], task[CHANNELS], task[WIDE]
    taps_down, taps_across, padded = task[KERNEL_HEIGHT], task[KERNEL_WIDTH], task[PADDED]
    image, pixel = first // (task[HIGH] * wide), first % (task[HIGH] * wide)
    down, across = pixel // wide, pixel % wide
    for row in range(SIDE):
        line = out + row * padded * 2
        top, left = down * task[STRIDE_DOWN] - task[TOP], across * task[STRIDE_ACROSS] - task[LEFT]
        begin, end = max(0, -left), min(taps_across, width - left)
        upper, lower = max(0, -top), min(taps_down, height - top)
        if end - begin < taps_across or lower - upper < taps_down or row >= count:
            clear(line, padded * 2)
        if row < count and end > begin:
            source = task[X] + ((image * height + top + upper) * width + left + begin) * channels * 2
            target = line + (upper * taps_across + begin) * channels * 2
            for _ in range(upper, lower):
                copy(source, target, (end - begin) * channels)
                source += width * channels * 2
                target += taps_across * channels * 2
        across += 1
        if across == wide:
            across = 0
            down += 1
            if down == task[HIGH]:
                down = 0
                image += 1


@njit(**KERNEL)
def seen_at(task, first, count, out):
    """Lay out what 32 rows of pixels see, where it does not lie so in x."""
    if task[LIES] == SCATTERED:
        lay_seen(task, first, count, out)
    elif task[LIES] == IN_ROWS or count < SIDE:
        lay_rows(task[X], first, count, task[SUMMED], task[PADDED], out)


@njit(**KERNEL)
def lay_weights(task, room):
    """room (OUT, PADDED), or turned (PADDED, OUT_PADDED) = the weights (rows, columns) in bfloat16, and zeros."""
    turned = task[TURNED] == 1
    rows, columns = (task[SUMMED], task[OUT]) if turned else (task[OUT], task[SUMMED])
    padded_rows, padded = (task[PADDED], task[OUT_PADDED]) if turned else (task[OUT_PADDED], task[PADDED])
    line = room + padded_rows * padded * 2
    clear(room, padded_rows * padded * 2)
    for row in range(rows):
        source, target = task[WEIGHTS] + row * columns * 4, room + row * padded * 2
        for place in range(0, columns, SIDE):
            if columns - place >= SIDE:
                round_row(source + place * 4, target + place * 2)
            else:
                copy_floats(source + place * 4, line, columns - place)
                round_row(line, line + 4 * SIDE)
                copy(line + 4 * SIDE, target + place * 2, columns - place)


@njit(**KERNEL)
def copy_floats(source, target, count):
    """Copy some numbers of float32."""
    given, taken = carray(floats(source), (count,)), carray(floats(target), (count,))
    for place in range(count):
        taken[place] = given[place]


@njit(**KERNEL)
def lay_biases(task, out):
    """out (OUT_PADDED,), float32 = the biases, and zeros."""
    clear(out, task[OUT_PADDED] * 4)
    if task[BIASES] != 0:
        copy_floats(task[BIASES], out, task[OUT])


@njit(**KERNEL)
def pack_all_weights(task, laid, out):
    """Factors on the right, (blocks of 32 results, steps)."""
    lay_weights(task, laid)
    size = task[PADDED] // SIDE * FACTOR
    for block in range(task[OUT_PADDED] // SIDE):
        if task[TURNED] == 1:
            pack_turned_weights(laid, 1, task[OUT_PADDED], task[PADDED], block, out + block * size)
        else:
            pack_weights(laid, 1, task[PADDED], task[OUT_PADDED], block, out + block * size)


@njit(**KERNEL)
def lay_ahead(task, begin, stop, end, seen):
    """Lay out what is not so in memory of the rows from `begin` to `stop`, of those to `end`."""
    for first in range(begin, stop, SIDE):
        seen_at(task, first, min(SIDE, end - first), seen + (first - begin) * task[PADDED] * 2)


@njit(**KERNEL)
def left_of(task, first, begin, end, seen):
    """Where 32 rows lie after `lay_ahead`."""
    if task[LIES] == AS_TAKEN and end - first >= SIDE:
        return task[X] + first * task[SUMMED] * 2
    return seen + (first - begin) * task[PADDED] * 2


@njit(**KERNEL)
def row_of(task, first, end):
    """Bytes from one of these rows to the next."""
    return 2 * (task[SUMMED] if task[LIES] == AS_TAKEN and end - first >= SIDE else task[PADDED])


@njit(**KERNEL)
def pair_all(source, row, blocks, out, block_size):
    """32 rows as factors on the right, `block_size` apart: one for every 32 columns."""
    for pair in range(ROWS):
        upper = source + 2 * pair * row
        for half in range(2 * blocks):
            start, target = half * LINE // 2, out + half // 2 * block_size + pair * 2 * LINE + half % 2 * LINE
            pair_rows(upper + start, upper + row + start, target)


@njit(**KERNEL)
def turn_all(source, row, blocks, out, block_size, room):
    """32 rows as factors on the left, whose rows are columns. room: for 16 lines."""
    for half in range(2 * blocks):
        for pair in range(ROWS):
            upper = source + 2 * pair * row + half * LINE // 2
            pair_rows(upper, upper + row, room + pair * LINE)
        turn(room, LINE, out + half // 2 * block_size + half % 2 * ROWS * LINE, LINE)


@njit(**KERNEL)
def pair_lefts(source, row, blocks, out, block_size, room):
    """The same where there are no tiles: they lie as those on the right do."""
    pair_all(source, row, blocks, out, block_size)


pack_lefts = turn_all if HAS_TILES else pair_lefts


@njit(**KERNEL)
def pack_rows(task, start, end, blocks, seen, rights, lefts, room):
    """Factors of rows from `start` on, and of some blocks of their gradients. room: for 16 lines, and 32 rows of these.

    rights: (blocks, factors); lefts: as many.
    """
    padded, out, factors = task[PADDED], task[OUT_PADDED], -(-(end - start) // SIDE)
    first_block, last_block = blocks
    for begin in range(start, end, task[AHEAD]):
        stop = min(end, begin + task[AHEAD])
        lay_ahead(task, begin, stop, end, seen)
        for first in range(begin, stop, SIDE):
            number = (first - start) // SIDE
            source = left_of(task, first, begin, end, seen)
            pair_all(source, padded * 2, padded // SIDE, rights + number * FACTOR, factors * FACTOR)
            source = task[GRADIENT] + first * out * 2
            if task[GRADIENT_LIES] == 0 or end - first < SIDE:
                source = room + FACTOR
                lay_rows(task[GRADIENT], first, min(SIDE, end - first), task[OUT], out, source)
            source += first_block * LINE
            pack_lefts(source, out * 2, last_block - first_block, lefts + number * FACTOR, factors * FACTOR, room)
