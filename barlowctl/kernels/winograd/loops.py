"""The loops of Winograd's convolutions: F(m x m, 3 x 3) on tiles of a map.

Everything is an address, of float32 except for maps: x and results are (n, height, width, channels), bfloat16 or
float32; channels, and `out`, those of the result, are multiples of 16. Tiles are numbered image by image and line by
line. `shape` is n, height, width, channels, out, and the itemsize of maps; `code` has the addresses of the vector code
for m and these (see `functions`). Of `BLOCK` channels, or as many as are left, a block is made; (m + 2)
squared is the number of `parts` of a tile, which are `PAD` bytes longer than their numbers where they are written next
to each other, so that they do not share places of the processor's cache.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from barlowctl.kernel_cache import njit
from barlowctl.kernels.float_vectors import COLUMNS, LANES
from barlowctl.kernels.tiles.memory import turn
from barlowctl.kernels.winograd.functions import run
from barlowctl.kernels.winograd.vector_code import BLOCK, ROWS

CODE = 6
INPUTS, GRADIENTS, TAPS, GATHER, WRITE, MULTIPLY = range(CODE)

STEP = 16
"""Channels are multiples of it, and weights are transformed, and their gradients summed, for so many at a time."""
PAD = 64
KERNEL: dict[str, Any] = {"cache": True, "nogil": True, "error_model": "numpy"}


@njit(**KERNEL)
def place_of(tile, m, height, width):
    """Image, line and column where a tile begins."""
    across = (width + m - 1) // m
    of_image = across * ((height + m - 1) // m)
    image = tile // of_image
    number = tile - image * of_image
    return image, m * (number // across), m * (number % across)


@njit(**KERNEL)
def columns_of(block, channels):
    """Vectors of a block of channels."""
    return min(COLUMNS, (channels - block * BLOCK) // LANES)


@njit(**KERNEL)
def transform_weights(code, m, weight, turned, block, step, matrices, channels, out):
    """The transformed weights of a block of `out`, of the channels from 16 step on.

    Args:
        weight: (out, 9, channels), or where it is `turned` (channels, 9, out): those that the gradient of x is the
            convolution with, turned by half a turn.
        matrices: (parts, channels, the block's), see `matrices_at`.
    """
    vectors, first = columns_of(block, out), block * BLOCK
    size, begin, part = vectors * LANES, step * STEP, channels * vectors * LANES * 4 + PAD
    if turned == 1:
        for c in range(begin, begin + STEP):
            last = weight + ((c * 9 + 8) * out + first) * 4
            run(code[TAPS], last, -4 * out, vectors, matrices + c * size * 4, part)
        return
    room = np.empty((9, STEP, size), np.float32)
    for tap in range(9):
        for d in range(0, size, STEP):
            square = weight + (((first + d) * 9 + tap) * channels + begin) * 4
            turn(square, 9 * channels * 4, room.ctypes.data + (tap * STEP * size + d) * 4, size * 4)
    for c in range(STEP):
        own = room.ctypes.data + c * size * 4
        run(code[TAPS], own, STEP * size * 4, vectors, matrices + (begin + c) * size * 4, part)


@njit(**KERNEL)
def matrices_at(m, block, channels):
    """Bytes before the transformed weights of a block, among those of all."""
    return block * (m + 2) ** 2 * (channels * BLOCK * 4 + PAD)


@njit(**KERNEL)
def read_inputs(code, m, x, zeros, shape, first, count, inputs, part):
    """inputs (parts, count, channels) = the transformed numbers of `count` tiles of x from the `first` on."""
    _, height, width, channels, _, itemsize = shape
    size, vectors = channels * itemsize, channels // LANES
    for tile in range(count):
        image, top, left = place_of(first + tile, m, height, width)
        source, target = x + image * height * width * size, inputs + tile * channels * 4
        run(code[INPUTS], source, zeros, top, left, height, width, size, 1, vectors, target, part, 0)


@njit(**KERNEL)
def multiply_block(code, m, inputs, part, matrices, products, shape, block, count):
    """products (count, parts, BLOCK) = a block of the sums of products of inputs and transformed weights."""
    channels, out = shape[3:5]
    parts, vectors, size = (m + 2) ** 2, columns_of(block, out), channels * 4
    for k in range(parts):
        matrix, place = matrices + k * (size * vectors * LANES + PAD), 0
        blocks = -(-count // ROWS)
        for number in range(blocks):
            rows = (count - place + blocks - number - 1) // (blocks - number)
            source, target = inputs + k * part + place * size, products + (place * parts + k) * BLOCK * 4
            run(code[MULTIPLY], rows, vectors, source, size, 4, matrix, channels, target, parts * BLOCK * 4, 0)
            place += rows


@njit(**KERNEL)
def write_block(code, m, products, y, beyond, shape, block, first, count):
    """Write a block of channels of the pixels of some tiles. beyond: room for BLOCK numbers."""
    _, height, width, _, out, itemsize = shape
    parts, vectors, size = (m + 2) ** 2, columns_of(block, out), out * itemsize
    for tile in range(count):
        image, top, left = place_of(first + tile, m, height, width)
        own, target = products + tile * parts * BLOCK * 4, y + image * height * width * size + block * BLOCK * itemsize
        run(code[WRITE], own, BLOCK * 4, vectors, target, top, left, height, width, size, beyond)


@njit(**KERNEL)
def spread_inputs(code, m, x, zeros, shape, room, place, first, count, inputs):
    """The same by blocks: inputs (blocks, parts, room, the block's), of which these tiles come from `place` on."""
    _, height, width, channels, _, itemsize = shape
    parts, whole, size = (m + 2) ** 2, channels // BLOCK, channels * itemsize
    part, rest = room * BLOCK * 4 + PAD, channels % BLOCK // LANES
    last, last_part = inputs + whole * parts * part, room * rest * LANES * 4 + PAD
    for tile in range(count):
        image, top, left = place_of(first + tile, m, height, width)
        source = x + image * height * width * size
        if whole > 0:
            target = inputs + (place + tile) * BLOCK * 4
            stretch = parts * part
            run(code[INPUTS], source, zeros, top, left, height, width, size, whole, COLUMNS, target, part, stretch)
        if rest > 0:
            target = last + (place + tile) * rest * LANES * 4
            source += whole * BLOCK * itemsize
            run(code[INPUTS], source, zeros, top, left, height, width, size, 1, rest, target, last_part, 0)


@njit(**KERNEL)
def spread_gradients(code, m, gradient, zeros, shape, room, place, own, first, count, gradients):
    """gradients (steps, parts, room, 16), of the steps of 16 channels `own`; tiles as in `spread_inputs`."""
    _, height, width, _, out, itemsize = shape
    (begin, end), size, vectors = own, out * itemsize, STEP // LANES
    part = room * STEP * 4 + PAD
    for tile in range(count):
        image, top, left = place_of(first + tile, m, height, width)
        source = gradient + image * height * width * size + begin * STEP * itemsize
        target, stretch, steps = gradients + (place + tile) * STEP * 4, (m + 2) ** 2 * part, end - begin
        run(code[GRADIENTS], source, zeros, top, left, height, width, size, steps, vectors, target, part, stretch)


@njit(**KERNEL)
def sum_block(code, m, inputs, gradients, shape, room, count, block, step, sums, adds):
    """sums (parts, 16, the block's) = the products of 16 gradients and a block of inputs, summed over `count` tiles.

    step: of the 16 in `gradients`. adds: to what was there.
    """
    channels = shape[3]
    parts, vectors = (m + 2) ** 2, columns_of(block, channels)
    size = vectors * LANES * 4
    own, part = inputs + block * parts * (room * BLOCK * 4 + PAD), room * size + PAD
    step_part = room * STEP * 4 + PAD
    for k in range(parts):
        w, x = own + k * part, gradients + (step * parts + k) * step_part
        target = sums + k * STEP * size
        run(code[MULTIPLY], 6, vectors, x, 4, STEP * 4, w, count, target, size, adds)
        run(code[MULTIPLY], 5, vectors, x + 6 * 4, 4, STEP * 4, w, count, target + 6 * size, size, adds)
        run(code[MULTIPLY], 5, vectors, x + 11 * 4, 4, STEP * 4, w, count, target + 11 * size, size, adds)


@njit(**KERNEL)
def write_gradient(code, m, sums, of_weight, shape, block, step):
    """Of the weights (out, 9, channels), of a block of channels and 16 of out; sums as in `sum_block`."""
    channels = shape[3]
    vectors = columns_of(block, channels)
    size = vectors * LANES * 4
    for d in range(STEP):
        target = of_weight + ((step * STEP + d) * 9 * channels + block * BLOCK) * 4
        run(code[GATHER], sums + d * size, STEP * size, vectors, target, channels * 4)


@njit(**KERNEL)
def sums_at(m, shape, block, step):
    """Bytes before the sums of a block of channels and 16 of out, among those of all."""
    channels = shape[3]
    return (step * channels + block * BLOCK) * STEP * (m + 2) ** 2 * 4
