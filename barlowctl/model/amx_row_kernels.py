"""Products of rows of bfloat16 by a processor's tiles (see `amx_code`): what each pixel of a result sees, and weights.

Rows of a product are pixels, 32 at a time, so that a map may be large and a kernel 1 x 1. What a pixel sees is laid
out next to one another in the processor's first cache, where it does not lie so in memory. Each thread takes piece
after piece; a number of a result is the sum of the same products in the same order whoever computes it.
"""

from __future__ import annotations

from numba import carray

from barlowctl.kernel_cache import cfunc, njit
from barlowctl.kernels.compiling import KERNEL
from barlowctl.kernels.thread_tiles import SHARED, TASK, take
from barlowctl.model.amx_code import (
    LINE,
    ROWS,
    SIDE,
    add_products,
    add_row,
    clear_sums,
    configure,
    load_sums,
    release,
    round_row,
    store_sums,
)
from barlowctl.model.amx_packing import FACTOR
from barlowctl.model.amx_row_code import copy
from barlowctl.model.amx_row_packing import (
    ACROSS,
    ADDS,
    AHEAD,
    CHUNK,
    CONFIGURATION,
    COUNT,
    FIELDS,
    HIGH,
    MAP_HEIGHT,
    MAP_WIDTH,
    NEXT,
    OUT,
    OUT_PADDED,
    PADDED,
    PIECE,
    ROOM,
    ROOM_SIZE,
    SLOT,
    STEP_DOWN,
    STEP_RIGHT,
    STRIP,
    WIDE,
    Y,
    clear,
    lay_ahead,
    left_of,
    pack_all_weights,
    pack_rows,
)


@njit(**KERNEL)
def add_rows(task, sums, first, count, block):
    """Add 32 results of some rows to a map's pixels that those are of, STEP_DOWN and STEP_RIGHT apart."""
    high, wide, out = task[HIGH], task[WIDE], task[OUT]
    image, pixel = first // (high * wide), first % (high * wide)
    down, across = pixel // wide, pixel % wide
    for number in range(count):
        row = (image * task[MAP_HEIGHT] + down * task[STEP_DOWN]) * task[MAP_WIDTH] + across * task[STEP_RIGHT]
        add_row(sums + number * 2 * LINE, task[Y] + (row * out + block * SIDE) * 2)
        across += 1
        if across == wide:
            across = 0
            down += 1
            if down == high:
                down = 0
                image += 1


@njit(**KERNEL)
def write_rows(task, sums, first, count, block):
    """Write 32 results of some rows, rounded, or add them to what is there."""
    out = task[OUT]
    target, size = task[Y] + (first * out + block * SIDE) * 2, out - block * SIDE
    if task[ADDS] == 1:
        add_rows(task, sums, first, count, block)
    elif size >= SIDE:
        for number in range(count):
            round_row(sums + number * 2 * LINE, target + number * out * 2)
    else:
        for number in range(count):
            line = sums + number * 2 * LINE
            round_row(line, line)
            copy(line, target + number * out * 2, size)


@njit(**KERNEL)
def multiply_rows(task, begin, end, seen, factors, sums):
    """The results of rows, which are written while the next ones are multiplied. sums: room for two times 32 x 32."""
    row, steps, blocks = task[PADDED] * 2, task[PADDED] // SIDE, task[OUT_PADDED] // SIDE
    number = 0
    for ahead in range(begin, end, task[AHEAD]):
        stop = min(end, ahead + task[AHEAD])
        lay_ahead(task, ahead, stop, end, seen)
        for first in range(ahead, stop, SIDE):
            left = left_of(task, first, ahead, end, seen)
            for block in range(blocks):
                clear_sums()
                right = factors + block * steps * FACTOR
                add_products(steps, left, row, ROWS * row, LINE, right, 2 * LINE, LINE, FACTOR)
                store_sums(sums + number % 2 * 2 * FACTOR, 2 * LINE)
                if number > 0:
                    before = number - 1
                    rows = begin + before // blocks * SIDE
                    write_rows(task, sums + before % 2 * 2 * FACTOR, rows, min(SIDE, end - rows), before % blocks)
                number += 1
    rows = begin + (number - 1) // blocks * SIDE
    write_rows(task, sums + (number - 1) % 2 * 2 * FACTOR, rows, min(SIDE, end - rows), (number - 1) % blocks)


@cfunc(TASK, **SHARED)
def multiply_pieces(address):
    """y (COUNT, OUT) = what each pixel sees times the weights."""
    task = carray(address, (FIELDS,))
    own = task[ROOM] + take(address, SLOT) * task[ROOM_SIZE]
    size = task[PADDED] * task[OUT_PADDED] * 2
    sums, laid = own, own + 4 * FACTOR
    factors, seen = laid + size + 4 * LINE, laid + 2 * size + 4 * LINE
    packed = False
    configure(task[CONFIGURATION])
    while True:
        begin = take(address, NEXT) * task[PIECE]
        if begin >= task[COUNT]:
            break
        if not packed:
            pack_all_weights(task, laid, factors)
            clear(seen, task[AHEAD] * task[PADDED] * 2)
            packed = True
        multiply_rows(task, begin, min(begin + task[PIECE], task[COUNT]), seen, factors, sums)
    release()


@njit(**KERNEL)
def sum_strip(task, sums, blocks, others, factors, rights, lefts, goes_on):
    """The sums of some blocks of results, and of others of what is seen, by all factors."""
    row = task[PADDED] * 4
    for block in range(blocks[0], blocks[1]):
        left = lefts + (block - blocks[0]) * factors * FACTOR
        for other in range(others[0], others[1]):
            target = sums + block * SIDE * row + other * SIDE * 4
            if goes_on:
                load_sums(target, row)
            else:
                clear_sums()
            right = rights + other * factors * FACTOR
            add_products(factors, left, LINE, ROWS * LINE, FACTOR, right, 2 * LINE, LINE, FACTOR)
            store_sums(target, row)


@cfunc(TASK, **SHARED)
def correlate_pieces(address):
    """y (pieces of rows, OUT_PADDED, PADDED), float32 = the gradients of the weights by each piece.

    What stands behind OUT or SUMMED is of no use.
    """
    task = carray(address, (FIELDS,))
    own = task[ROOM] + take(address, SLOT) * task[ROOM_SIZE]
    padded, out, across = task[PADDED], task[OUT_PADDED], task[ACROSS]
    seen = own + FACTOR + SIDE * out * 2
    rights = seen + task[AHEAD] * padded * 2
    lefts = rights + task[CHUNK] * padded * 2
    configure(task[CONFIGURATION])
    while True:
        piece = take(address, NEXT)
        rows, part = piece // across, piece % across
        begin, end = rows * task[PIECE], min((rows + 1) * task[PIECE], task[COUNT])
        if begin >= task[COUNT]:
            break
        blocks = part * (out // SIDE) // across, (part + 1) * (out // SIDE) // across
        for start in range(begin, end, task[CHUNK]):
            stop = min(end, start + task[CHUNK])
            pack_rows(task, start, stop, blocks, seen, rights, lefts, own)
            sums, factors = task[Y] + rows * out * padded * 4, -(-(stop - start) // SIDE)
            for other in range(0, padded // SIDE, task[STRIP]):
                others = other, min(padded // SIDE, other + task[STRIP])
                sum_strip(task, sums, blocks, others, factors, rights, lefts, start > begin)
    release()
