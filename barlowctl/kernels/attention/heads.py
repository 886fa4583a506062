"""Attention and its gradients, head by head of an image: each is a piece, which a thread has to itself.

Rows are patches, 32 at a time; of products of all patches a thread has those of 32 rows, or in the backward pass of
`CHUNK`, which stay in the processor's second cache. The backward pass computes them again, from the logarithm of each
row's sum. A number of a result is the sum of the same products in the same order on any number of threads.
"""

from __future__ import annotations

import numpy as np
from numba import carray

from barlowctl.kernel_cache import cfunc, njit
from barlowctl.kernels.attention.products import add_factors, multiply_blocks
from barlowctl.kernels.attention.vector_code import (
    hide,
    largest,
    product,
    write_gradients,
    write_multiple,
    write_powers,
)
from barlowctl.kernels.compiling import KERNEL
from barlowctl.kernels.float_vectors import LANES
from barlowctl.kernels.thread_tiles import SHARED, TASK, clear, floats, new_task, take
from barlowctl.kernels.tiles.memory import LINE, ROWS, SIDE, turn
from barlowctl.kernels.tiles.packing import FACTOR
from barlowctl.kernels.tiles.row_code import copy
from barlowctl.kernels.tiles.row_packing import pack_lefts, pair_all
from barlowctl.kernels.tiles.sums import configure, release

CHUNK = 256
"""Rows whose products are kept for the gradients of keys and values, which are sums over rows."""
FIELDS = 32  # of a task
(
    NEXT, SLOT, CONFIGURATION, ROOM, ROOM_SIZE, HEADS, COUNT, PATCHES, WIDTH, SCALES, SUMS,
    Q, Q_IMAGE, Q_HEAD, Q_ROW, K, K_IMAGE, K_HEAD, K_ROW, V, V_IMAGE, V_HEAD, V_ROW,
    OUT, G, G_IMAGE, G_HEAD, G_ROW, OF_Q, OF_K, OF_V, OF_ROW,
) = range(FIELDS)  # fmt: skip
"""A task, int64: the next piece, and the next thread's place in the rooms; numbers; then addresses, in bytes.

CONFIGURATION: see `tiles.sums.configure`. COUNT: images times HEADS. WIDTH: numbers of a head's row, a multiple of 32.
SCALES: two numbers of float32, that of the products, and the same times log2(e). SUMS: float32 (images, heads,
patches), binary logarithms. Of Q, K, V and G, the gradient of OUT: from an image, a head, a row to the next. OUT:
(images, patches, heads, width). Gradients lie in the same order, but their patches are OF_ROW apart.
"""


def task_of(**fields: int) -> np.ndarray:
    """A task."""
    return new_task(FIELDS, globals(), fields)


def room_of(patches: int, width: int, *, backward: bool) -> int:
    """Bytes that a thread needs for a head."""
    padded = -(-patches // SIDE) * SIDE
    rows = min(padded, CHUNK)
    forward = 2 * 2 * padded * width + SIDE * padded * (4 + 2) + 3 * SIDE * width * 4 + 2 * LINE
    if not backward:
        return forward
    more = 2 * padded * width + SIDE * padded * (4 + 2) + 4 * rows * padded + 4 * rows * width + 8 * padded * width
    return forward + more + 2 * LINE


@njit(**KERNEL)
def rows_at(source, row, first, count, width, room):
    """Where 32 rows lie, and bytes from one to the next: `count` from the first on, or in room, with zeros behind."""
    if count == SIDE:
        return source + first * row, row
    clear(room, SIDE * width * 2)
    for number in range(count):
        copy(source + (first + number) * row, room + number * width * 2, width)
    return room, width * 2


@njit(**KERNEL)
def turn_rows(source, row, patches, width, out, room):
    """out (blocks of 32 patches, width // 32) = factors on the right, whose columns are rows of the source."""
    for first in range(0, patches, SIDE):
        start, step = rows_at(source, row, first, min(SIDE, patches - first), width, room)
        for half in range(2):
            for part in range(width // SIDE):
                target = out + (first // SIDE * (width // SIDE) + part) * FACTOR + half * LINE
                turn(start + half * ROWS * step + part * LINE, step, target, 2 * LINE)


@njit(**KERNEL)
def pair_rows_of(source, row, patches, width, out, blocks, room):
    """out (width // 32, blocks of 32 patches) = factors on the right, whose rows are rows of the source."""
    for first in range(0, patches, SIDE):
        start, step = rows_at(source, row, first, min(SIDE, patches - first), width, room)
        pair_all(start, step, width // SIDE, out + first // SIDE * FACTOR, blocks * FACTOR)


@cfunc(TASK, **SHARED)
def attend_heads(address):
    """o = softmax(scale q k^T) v, and the sums of the softmax."""
    task = carray(address, (FIELDS,))
    own = task[ROOM] + take(address, SLOT) * task[ROOM_SIZE]
    patches, width, heads = task[PATCHES], task[WIDTH], task[HEADS]
    blocks, parts = -(-patches // SIDE), width // SIDE
    padded = blocks * SIDE
    scale = carray(floats(task[SCALES]), (2,))[1]
    keys, values = own, own + 2 * padded * width
    s, p = values + 2 * padded * width, values + 2 * padded * width + SIDE * padded * 4
    o = p + SIDE * padded * 2
    room = o + SIDE * width * 4
    totals, zeros = carray(floats(room + SIDE * width * 2), (SIDE,)), room + SIDE * width * 2 + 2 * LINE
    clear(zeros, 2 * LINE)
    configure(task[CONFIGURATION])
    while True:
        piece = take(address, NEXT)
        if piece >= task[COUNT]:
            break
        image, head = piece // heads, piece % heads
        q = task[Q] + image * task[Q_IMAGE] + head * task[Q_HEAD]
        out = task[OUT] + (image * patches * heads + head) * width * 2
        sums = carray(floats(task[SUMS] + piece * patches * 4), (patches,))
        turn_rows(task[K] + image * task[K_IMAGE] + head * task[K_HEAD], task[K_ROW], patches, width, keys, room)
        v = task[V] + image * task[V_IMAGE] + head * task[V_HEAD]
        pair_rows_of(v, task[V_ROW], patches, width, values, blocks, room)
        for first in range(0, patches, SIDE):
            count = min(SIDE, patches - first)
            left, row = rows_at(q, task[Q_ROW], first, count, width, room)
            multiply_blocks(count, width, left, row, keys, blocks, parts * FACTOR, zeros, s, padded * 4)
            for number in range(count):
                line = s + number * padded * 4
                hide(line, patches, padded)
                shift = largest(line, padded // LANES) * scale
                totals[number] = write_powers(line, padded // LANES, scale, shift, p + number * padded * 2)
                sums[first + number] = shift + np.log2(totals[number])
            multiply_blocks(count, patches, p, padded * 2, values, parts, blocks * FACTOR, zeros, o, width * 4)
            for number in range(count):
                target = out + (first + number) * heads * width * 2
                write_multiple(o + number * width * 4, width // LANES, np.float32(1.0) / totals[number], target)
    release()


@njit(**KERNEL)
def places_of(own, padded, width, rows):
    """Where a thread has what it needs for the gradients of a head: bytes of each part, one after another.

    Keys and values turned, keys; products of 32 rows, and what the gradient of the shares is; shares and gradients of
    the products in bfloat16; of `rows` rows these again, and queries and gradients, as factors; sums for keys and
    values; of 32 rows results; room for rows; a line of zeros.
    """
    square, head, line = SIDE * padded, 2 * padded * width, SIDE * width * 4
    turned_keys, turned_values, keys = own, own + head, own + 2 * head
    s = own + 3 * head
    d, p, g = s + 4 * square, s + 8 * square, s + 10 * square
    lefts = s + 12 * square
    left_gradients, rights = lefts + 2 * rows * padded, lefts + 4 * rows * padded
    right_gradients, of_keys = rights + 2 * rows * width, rights + 4 * rows * width
    of_values, o = of_keys + 2 * head, of_keys + 4 * head
    return (
        (turned_keys, turned_values, keys), (s, d, p, g), (lefts, left_gradients, rights, right_gradients),
        (of_keys, of_values, o), (o + line, o + 2 * line),
    )  # fmt: skip


@njit(**KERNEL)
def differentiate_rows(task, places, maps, sums, first, number, many):
    """Of 32 rows from the first on: the gradient of q, written; and factors of sums over rows, `number` of `many`.

    maps: addresses of a head's q, gradient and result, and of the gradient of q.
    """
    (turned_keys, turned_values, keys), (s, d, p, g), (lefts, left_gradients, rights, right_gradients) = places[:3]
    (_, _, o), (room, zeros) = places[3:]
    q, gradient, result, of_q = maps
    patches, width, row_out = task[PATCHES], task[WIDTH], task[HEADS] * task[WIDTH] * 2
    blocks, parts = -(-patches // SIDE), width // SIDE
    padded, count, factors = blocks * SIDE, min(SIDE, patches - first), carray(floats(task[SCALES]), (2,))
    left, row = rows_at(q, task[Q_ROW], first, count, width, room)
    multiply_blocks(count, width, left, row, turned_keys, blocks, parts * FACTOR, zeros, s, padded * 4)
    pair_all(left, row, parts, rights + number * FACTOR, many * FACTOR)
    left, row = rows_at(gradient, task[G_ROW], first, count, width, room)
    multiply_blocks(count, width, left, row, turned_values, blocks, parts * FACTOR, zeros, d, padded * 4)
    pair_all(left, row, parts, right_gradients + number * FACTOR, many * FACTOR)
    if count < SIDE:
        clear(p, SIDE * padded * 2)
        clear(g, SIDE * padded * 2)
    for line in range(count):
        at, own = line * padded, first + line
        hide(s + at * 4, patches, padded)
        mean = product(left + line * row, result + own * row_out, width // LANES)
        write_gradients(
            s + at * 4, d + at * 4, padded // LANES, factors[1], sums[own], mean, factors[0], p + at * 2, g + at * 2
        )
    pack_lefts(p, padded * 2, blocks, lefts + number * FACTOR, many * FACTOR, o)
    pack_lefts(g, padded * 2, blocks, left_gradients + number * FACTOR, many * FACTOR, o)
    multiply_blocks(count, patches, g, padded * 2, keys, parts, blocks * FACTOR, zeros, o, width * 4)
    write_rows(o, first, count, width, of_q, task[OF_ROW])


@njit(**KERNEL)
def add_rows(places, blocks, parts, many, begins):
    """Add the products of factors, which are sums over rows, to the sums for keys and values; or begin with them."""
    (lefts, left_gradients, rights, right_gradients), (of_keys, of_values, _), (_, zeros) = places[2:]
    row = parts * SIDE * 4
    for out, left, right in ((of_keys, left_gradients, rights), (of_values, lefts, right_gradients)):
        for block in range(blocks):
            for part in range(parts):
                target = out + block * SIDE * row + part * SIDE * 4
                own, other = left + block * many * FACTOR, right + part * many * FACTOR
                add_factors(many, own, other, zeros, begins, target, row)


@njit(**KERNEL)
def write_rows(source, first, count, width, target, row):
    """Write rows of float32, from the first of the target's on, rounded."""
    for line in range(count):
        write_multiple(source + line * width * 4, width // LANES, np.float32(1.0), target + (first + line) * row)


@cfunc(TASK, **SHARED)
def differentiate_heads(address):
    """The gradients of q, k and v by that of o."""
    task = carray(address, (FIELDS,))
    own = task[ROOM] + take(address, SLOT) * task[ROOM_SIZE]
    patches, width, heads, of_row = task[PATCHES], task[WIDTH], task[HEADS], task[OF_ROW]
    blocks, parts = -(-patches // SIDE), width // SIDE
    rows = min(CHUNK, blocks * SIDE)
    places = places_of(own, blocks * SIDE, width, rows)
    (turned_keys, turned_values, keys), (of_keys, of_values, _), (room, zeros) = places[0], places[3], places[4]
    clear(zeros, 2 * LINE)
    configure(task[CONFIGURATION])
    while True:
        piece = take(address, NEXT)
        if piece >= task[COUNT]:
            break
        image, head = piece // heads, piece % heads
        k = task[K] + image * task[K_IMAGE] + head * task[K_HEAD]
        v = task[V] + image * task[V_IMAGE] + head * task[V_HEAD]
        begin = image * patches * of_row + head * width * 2
        maps = (
            task[Q] + image * task[Q_IMAGE] + head * task[Q_HEAD],
            task[G] + image * task[G_IMAGE] + head * task[G_HEAD],
            task[OUT] + (image * patches * heads + head) * width * 2,
            task[OF_Q] + begin,
        )
        sums = carray(floats(task[SUMS] + piece * patches * 4), (patches,))
        turn_rows(k, task[K_ROW], patches, width, turned_keys, room)
        turn_rows(v, task[V_ROW], patches, width, turned_values, room)
        pair_rows_of(k, task[K_ROW], patches, width, keys, blocks, room)
        for start in range(0, patches, rows):
            many = -(-(min(patches, start + rows) - start) // SIDE)
            for number in range(many):
                differentiate_rows(task, places, maps, sums, start + number * SIDE, number, many)
            add_rows(places, blocks, parts, many, start == 0)
        write_rows(of_keys, 0, patches, width, task[OF_K] + begin, of_row)
        write_rows(of_values, 0, patches, width, task[OF_V] + begin, of_row)
    release()
