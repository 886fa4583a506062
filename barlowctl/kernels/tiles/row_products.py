"""Products of rows of bfloat16 by a processor's tiles (see `sums`): what each pixel of a result sees, and weights.

Rows of a product are pixels, 32 at a time, so that a map may be large and a kernel 1 x 1. What a pixel sees is laid
out next to one another in the processor's first cache, where it does not lie so in memory. Each thread takes piece
after piece; a number of a result is the sum of the same products in the same order whoever computes it.
"""

from __future__ import annotations

from numba import carray

from barlowctl.kernel_cache import cfunc, njit
from barlowctl.kernels.compiling import KERNEL
from barlowctl.kernels.thread_tiles import SHARED, TASK, clear, take
from barlowctl.kernels.tiles.memory import LINE, ROWS, SIDE, add_row, round_row
from barlowctl.kernels.tiles.packing import FACTOR
from barlowctl.kernels.tiles.row_code import copy
from barlowctl.kernels.tiles.row_packing import (
    ACROSS,
    ADDS,
    AHEAD,
    CHUNK,
    CONFIGURATION,
    COUNT,
    FIELDS,
    GRADIENT,
    HIGH,
    LIES,
    MAP_HEIGHT,
    MAP_WIDTH,
    NEXT,
    OUT,
    OUT_PADDED,
    PADDED,
    PIECE,
    ROOM,
    ROOM_SIZE,
    SCATTERED,
    SLOT,
    STEP_DOWN,
    STEP_RIGHT,
    STRIP,
    SUMMED,
    WIDE,
    X,
    Y,
    lay_ahead,
    lay_biases,
    left_of,
    pack_all_weights,
    pack_rows,
    row_of,
)
from barlowctl.kernels.tiles.sums import HAS_TILES, add_products, clear_sums, configure, load_sums, release, store_sums
from barlowctl.kernels.tiles.vectors import (
    AT_ONCE,
    FETCHED,
    PART,
    PARTS,
    add_paired,
    multiply,
    multiply_added,
    multiply_rounded,
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
def multiply_rows(task, begin, end, seen, factors, biases, sums):
    """The results of rows, which are written while the next ones are multiplied. sums: room for two times 32 x 32."""
    row, steps, blocks = task[PADDED] * 2, task[PADDED] // SIDE, task[OUT_PADDED] // SIDE
    number = 0
    for ahead in range(begin, end, task[AHEAD]):
        stop = min(end, ahead + task[AHEAD])
        lay_ahead(task, ahead, stop, end, seen)
        for first in range(ahead, stop, SIDE):
            left = left_of(task, first, ahead, end, seen)
            for block in range(blocks):
                own, right = sums + number % 2 * 2 * FACTOR, factors + block * steps * FACTOR
                load_sums(biases + block * 2 * LINE, 0)
                add_products(steps, left, row, ROWS * row, LINE, right, 2 * LINE, LINE, FACTOR, own, 2 * LINE)
                store_sums(own, 2 * LINE)
                if number > 0:
                    before = number - 1
                    rows = begin + before // blocks * SIDE
                    write_rows(task, sums + before % 2 * 2 * FACTOR, rows, min(SIDE, end - rows), before % blocks)
                number += 1
    rows = begin + (number - 1) // blocks * SIDE
    write_rows(task, sums + (number - 1) % 2 * 2 * FACTOR, rows, min(SIDE, end - rows), (number - 1) % blocks)


@njit(**KERNEL)
def lie_alike(task):
    """Whether the pixels of the maps to which results are added are theirs, one after another."""
    apart = task[STEP_DOWN] > 1 or task[STEP_RIGHT] > 1
    return not apart and task[MAP_HEIGHT] == task[HIGH] and task[MAP_WIDTH] == task[WIDE]


@njit(**KERNEL)
def multiply_rows_by_vectors(task, begin, end, seen, factors, biases, sums):
    """The same where there are no tiles: most results are rounded and written without being put anywhere else."""
    out, blocks, size = task[OUT], task[OUT_PADDED] // SIDE, task[PADDED] // SIDE * FACTOR
    parts, adds = -(-task[SUMMED] // PART), task[ADDS] == 1
    whole = 0 if adds and not lie_alike(task) else out // SIDE
    for ahead in range(begin, end, task[AHEAD]):
        stop = min(end, ahead + task[AHEAD])
        lay_ahead(task, ahead, stop, end, seen)
        for first in range(ahead, stop, SIDE):
            left, row = left_of(task, first, ahead, end, seen), row_of(task, first, end)
            count, y = min(SIDE, end - first), task[Y] + first * out * 2
            x_size, y_size = SIDE * row // blocks, SIDE * out * 2 // blocks  # of the next rows, for each block
            x_step, y_step = x_size // (parts * FETCHED), y_size // (parts * FETCHED)
            for block in range(blocks):
                right, target = factors + block * size, y + block * LINE
                given = biases + block * 2 * LINE
                x, next_y = left + SIDE * row + block * x_size, y + SIDE * out * 2 + block * y_size
                if block < whole and count == SIDE and adds:
                    multiply_added(parts, left, row, right, given, target, out * 2, x, x_step, next_y, y_step)
                elif block < whole and count == SIDE:
                    multiply_rounded(parts, left, row, right, given, target, out * 2, x, x_step, next_y, y_step)
                else:
                    multiply(parts, left, row, right, given, sums, 2 * LINE, -(-count // AT_ONCE))
                    write_rows(task, sums, first, count, block)


multiply_some_rows = multiply_rows if HAS_TILES else multiply_rows_by_vectors


@cfunc(TASK, **SHARED)
def multiply_pieces(address):
    """y (COUNT, OUT) = what each pixel sees times the weights."""
    task = carray(address, (FIELDS,))
    own = task[ROOM] + take(address, SLOT) * task[ROOM_SIZE]
    size = task[PADDED] * task[OUT_PADDED] * 2
    sums, laid = own, own + 4 * FACTOR
    factors, biases = laid + size + 4 * LINE, laid + 2 * size + 4 * LINE
    seen = biases + task[OUT_PADDED] * 4
    packed = False
    configure(task[CONFIGURATION])
    while True:
        begin = take(address, NEXT) * task[PIECE]
        if begin >= task[COUNT]:
            break
        if not packed:
            pack_all_weights(task, laid, factors)
            lay_biases(task, biases)
            clear(seen, task[AHEAD] * task[PADDED] * 2)
            packed = True
        multiply_some_rows(task, begin, min(begin + task[PIECE], task[COUNT]), seen, factors, biases, sums)
    release()


@njit(**KERNEL)
def sum_strip(task, sums, stored, blocks, others, factors, rights, lefts, goes_on, ends, following):
    """The sums of some blocks of results, and of others of what is seen, by all factors.

    stored, ends, following: unused.
    """
    row = task[PADDED] * 4
    for block in range(blocks[0], blocks[1]):
        left = lefts + (block - blocks[0]) * factors * FACTOR
        for other in range(others[0], others[1]):
            target = sums + block * SIDE * row + other * SIDE * 4
            if goes_on:
                load_sums(target, row)
            else:
                clear_sums(target, row)
            right = rights + other * factors * FACTOR
            add_products(factors, left, LINE, ROWS * LINE, FACTOR, right, 2 * LINE, LINE, FACTOR, target, row)
            store_sums(target, row)


@njit(**KERNEL)
def following_rows(task, first, calls):
    """Where the next rows of x and of the gradient lie, and bytes of each that a call of `calls` fetches.

    None of what does not lie in rows, or of which a thread takes a part.
    """
    count = min(task[CHUNK], task[COUNT] - first)
    x_row = 0 if task[LIES] == SCATTERED else task[SUMMED] * 2
    g_row = task[OUT] * 2 if task[ACROSS] == 1 else 0
    return (task[X] + first * x_row, count * x_row // calls), (task[GRADIENT] + first * g_row, count * g_row // calls)


@njit(**KERNEL)
def sum_strip_by_vectors(task, sums, stored, blocks, others, factors, rights, lefts, goes_on, ends, following):
    """The same where there are no tiles. stored: a line of zeros, then room for sums that are not the last ones yet.

    There they lie block by block: rows of the result may share places of the cache. following: the first of the rows
    that come next, which are fetched into the cache: reading them takes a third as long as what is computed here.
    """
    row, zeros, across = task[PADDED] * 4, stored, task[PADDED] // SIDE
    height = blocks[1] - blocks[0]
    (x, x_size), (g, g_size) = following_rows(task, following, height * across)
    lines, call = FETCHED * PARTS * factors, others[0] * height
    x_step, g_step = x_size // lines, g_size // lines
    for block in range(blocks[0], blocks[1]):
        left = lefts + (block - blocks[0]) * factors * FACTOR
        for other in range(others[0], others[1]):
            own = stored + 2 * LINE + ((block - blocks[0]) * across + other) * 2 * FACTOR
            given, given_row = (own, 2 * LINE) if goes_on else (zeros, 0)
            target, target_row = (sums + block * SIDE * row + other * 2 * LINE, row) if ends else (own, 2 * LINE)
            right = rights + other * factors * FACTOR
            next_x, next_g = x + call * x_size, g + call * g_size
            add_paired(
                factors, left, right, FACTOR, given, given_row, target, target_row, next_x, x_step, next_g, g_step
            )
            call += 1


sum_some = sum_strip if HAS_TILES else sum_strip_by_vectors


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
    stored = lefts + task[CHUNK] * out * 2
    clear(stored, 2 * LINE)
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
                sum_some(task, sums, stored, blocks, others, factors, rights, lefts, start > begin, stop == end, stop)
    release()
