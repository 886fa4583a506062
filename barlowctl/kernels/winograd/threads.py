"""Winograd's convolutions by torch's threads (see `thread_team`): each takes piece after piece of the work.

A number of a result is the sum of the same products in the same order whoever computes it, so that results are those
of one thread, to the bit, on any number of them.
"""

from __future__ import annotations

import numpy as np
from numba import carray

from barlowctl.kernel_cache import cfunc, njit
from barlowctl.kernels.thread_tiles import SHARED, TASK, alone, floats, new_task, take, together
from barlowctl.kernels.winograd.functions import addresses
from barlowctl.kernels.winograd.loops import (
    KERNEL,
    PAD,
    STEP,
    matrices_at,
    multiply_block,
    read_inputs,
    spread_gradients,
    spread_inputs,
    sum_block,
    sums_at,
    transform_weights,
    write_block,
    write_gradient,
)
from barlowctl.kernels.winograd.vector_code import BLOCK

BF16_ITEMSIZE = 2
FIELDS = 30  # of a task
(
    NEXT, SLOT, X, GRADIENT, WEIGHTS, Y, ZEROS, INPUTS, FIRST_ROOM, SECOND_ROOM, FIRST_SIZE, SECOND_SIZE,
    N, HEIGHT, WIDTH, CHANNELS, OUT, M, TILES, GROUP, SHARES, ACROSS, TURNED, ITEMSIZE,
    TRANSFORM_INPUTS, TRANSFORM_GRADIENTS, TRANSFORM_TAPS, GATHER_TAPS, WRITE_TILE, MULTIPLY,
) = range(FIELDS)  # fmt: skip
"""A task, int64: the next piece, and the next thread's place in the rooms; then addresses, and sizes in bytes."""


@njit(**KERNEL)
def shape_of(task):
    """See `loops`."""
    return task[N], task[HEIGHT], task[WIDTH], task[CHANNELS], task[OUT], task[ITEMSIZE]


@njit(**KERNEL)
def code_of(task):
    """See `loops`."""
    inputs, gradients, taps = task[TRANSFORM_INPUTS], task[TRANSFORM_GRADIENTS], task[TRANSFORM_TAPS]
    return inputs, gradients, taps, task[GATHER_TAPS], task[WRITE_TILE], task[MULTIPLY]


@cfunc(TASK, **SHARED)
def transform_pieces(address):
    """Sixteen channels of a block of weights: see `transform_weights`; y is for all of them."""
    task = carray(address, (FIELDS,))
    code = code_of(task)
    m, channels, out = task[M], task[CHANNELS], task[OUT]
    steps = channels // STEP
    while True:
        piece = take(address, NEXT)
        block = piece // steps
        if block * BLOCK >= out:
            return
        matrices = task[Y] + matrices_at(m, block, channels)
        transform_weights(code, m, task[X], task[TURNED], block, piece % steps, matrices, channels, out)


@cfunc(TASK, **SHARED)
def convolve_pieces(address):
    """All channels of a group of tiles, with weights that are transformed."""
    task = carray(address, (FIELDS,))
    code = code_of(task)
    shape, slot, m = shape_of(task), take(address, SLOT), task[M]
    channels, out = task[CHANNELS], task[OUT]
    inputs = task[FIRST_ROOM] + slot * task[FIRST_SIZE]
    beyond = task[SECOND_ROOM] + slot * task[SECOND_SIZE]
    products, part = beyond + BLOCK * 4, task[GROUP] * channels * 4 + PAD
    while True:
        first = take(address, NEXT) * task[GROUP]
        if first >= task[TILES]:
            return
        count = min(task[GROUP], task[TILES] - first)
        read_inputs(code, m, task[X], task[ZEROS], shape, first, count, inputs, part)
        for block in range(-(-out // BLOCK)):
            matrices = task[WEIGHTS] + matrices_at(m, block, channels)
            multiply_block(code, m, inputs, part, matrices, products, shape, block, count)
            write_block(code, m, products, task[Y], beyond, shape, block, first, count)


@cfunc(TASK, **SHARED)
def input_pieces(address):
    """A group of tiles, transformed: of all tiles, for `block_pieces`."""
    task = carray(address, (FIELDS,))
    code = code_of(task)
    shape, part = shape_of(task), task[TILES] * task[CHANNELS] * 4 + PAD
    while True:
        first = take(address, NEXT) * task[GROUP]
        if first >= task[TILES]:
            return
        count = min(task[GROUP], task[TILES] - first)
        inputs = task[INPUTS] + first * task[CHANNELS] * 4
        read_inputs(code, task[M], task[X], task[ZEROS], shape, first, count, inputs, part)


@cfunc(TASK, **SHARED)
def block_pieces(address):
    """A block of channels of all tiles, whose inputs are transformed, with weights that are not yet."""
    task = carray(address, (FIELDS,))
    code = code_of(task)
    shape, slot, m = shape_of(task), take(address, SLOT), task[M]
    channels, out = task[CHANNELS], task[OUT]
    matrices = task[FIRST_ROOM] + slot * task[FIRST_SIZE]
    beyond = task[SECOND_ROOM] + slot * task[SECOND_SIZE]
    products, part = beyond + BLOCK * 4, task[TILES] * channels * 4 + PAD
    while True:
        block = take(address, NEXT)
        if block * BLOCK >= out:
            return
        for step in range(channels // STEP):
            transform_weights(code, m, task[WEIGHTS], task[TURNED], block, step, matrices, channels, out)
        for first in range(0, task[TILES], task[GROUP]):
            count = min(task[GROUP], task[TILES] - first)
            inputs = task[INPUTS] + first * channels * 4
            multiply_block(code, m, inputs, part, matrices, products, shape, block, count)
            write_block(code, m, products, task[Y], beyond, shape, block, first, count)


@cfunc(TASK, **SHARED)
def correlate_pieces(address):
    """Some rows of the sums of a share of all tiles, of which the gradient of the weights is made."""
    task = carray(address, (FIELDS,))
    code = code_of(task)
    shape, slot, m = shape_of(task), take(address, SLOT), task[M]
    x, gradient, zeros, room, channels = task[X], task[GRADIENT], task[ZEROS], task[GROUP], task[CHANNELS]
    inputs = task[FIRST_ROOM] + slot * task[FIRST_SIZE]
    gradients = task[SECOND_ROOM] + slot * task[SECOND_SIZE]
    steps, across, shares = task[OUT] // STEP, task[ACROSS], task[SHARES]
    groups = -(-task[TILES] // room)
    while True:
        piece = take(address, NEXT)
        share, number = piece // across, piece % across
        if share >= shares:
            return
        own = number * steps // across, (number + 1) * steps // across
        sums = task[Y] + share * (m + 2) ** 2 * task[OUT] * channels * 4
        start = share * groups // shares
        for group in range(start, (share + 1) * groups // shares):
            first = group * room
            count = min(room, task[TILES] - first)
            spread_inputs(code, m, x, zeros, shape, room, 0, first, count, inputs)
            spread_gradients(code, m, gradient, zeros, shape, room, 0, own, first, count, gradients)
            adds = 1 if group > start else 0
            for block in range(-(-channels // BLOCK)):
                for step in range(own[1] - own[0]):
                    target = sums + sums_at(m, shape, block, own[0] + step)
                    sum_block(code, m, inputs, gradients, shape, room, count, block, step, target, adds)


@cfunc(TASK, **SHARED)
def gather_pieces(address):
    """A block of the gradient of the weights, of the sums of all shares, which are added up in their order."""
    task = carray(address, (FIELDS,))
    code = code_of(task)
    shape, m, channels = shape_of(task), task[M], task[CHANNELS]
    blocks = -(-channels // BLOCK)
    whole = (m + 2) ** 2 * task[OUT] * channels
    while True:
        piece = take(address, NEXT)
        step, block = piece // blocks, piece % blocks
        if step * STEP >= task[OUT]:
            return
        start = task[X] + sums_at(m, shape, block, step)
        size = (m + 2) ** 2 * STEP * min(BLOCK, channels - block * BLOCK)
        total = carray(floats(start), (size,))
        for share in range(1, task[SHARES]):
            more = carray(floats(start + share * whole * 4), (size,))
            for number in range(size):
                total[number] += more[number]
        write_gradient(code, m, start, task[Y], shape, block, step)


@cfunc(TASK, **SHARED)
def spread_pieces(address):
    """A group of tiles of both, transformed: of all tiles, for `sum_pieces`."""
    task = carray(address, (FIELDS,))
    code = code_of(task)
    shape, m, room = shape_of(task), task[M], task[TILES]
    own = 0, task[OUT] // STEP
    while True:
        first = take(address, NEXT) * task[GROUP]
        if first >= room:
            return
        count = min(task[GROUP], room - first)
        spread_inputs(code, m, task[X], task[ZEROS], shape, room, first, first, count, task[FIRST_ROOM])
        spread_gradients(code, m, task[GRADIENT], task[ZEROS], shape, room, first, own, first, count, task[SECOND_ROOM])


@cfunc(TASK, **SHARED)
def sum_pieces(address):
    """A block of the gradient of the weights, of all tiles, which are transformed."""
    task = carray(address, (FIELDS,))
    code = code_of(task)
    shape, m, room, channels = shape_of(task), task[M], task[TILES], task[CHANNELS]
    blocks = -(-channels // BLOCK)
    sums = np.empty((m + 2) ** 2 * STEP * BLOCK, np.float32)
    while True:
        piece = take(address, NEXT)
        block, step = piece // (task[OUT] // STEP), piece % (task[OUT] // STEP)
        if block >= blocks:
            return
        sum_block(code, m, task[FIRST_ROOM], task[SECOND_ROOM], shape, room, room, block, step, sums.ctypes.data, 0)
        write_gradient(code, m, sums.ctypes.data, task[Y], shape, block, step)


@njit(**KERNEL)
def call_together(team, function, task):
    """Have the team's threads, or the calling one alone, call a function with a task, from its first piece on."""
    parallel, threads = team
    task[NEXT], task[SLOT] = 0, 0
    if threads == 1:
        alone(function, task.ctypes.data)
    else:
        together(parallel, function, task.ctypes.data, threads)


def task_of(shape: tuple[int, ...], **fields: int) -> np.ndarray:
    """A task of a convolution of shape n, height, width, channels, out."""
    code = addresses(fields["m"], int(fields["itemsize"] == BF16_ITEMSIZE))
    task = new_task(FIELDS, globals(), code | fields)
    task[N : OUT + 1] = shape
    return task
