"""The loops of `winograd_kernels` by torch's threads (see `thread_team`): a tile of images, lines or weights at a time.

A result's pixel is computed by one thread, and so is each sum of the gradient of the weights, over all images in their
order: results are those of one thread, to the bit, on any number of them.
"""

from __future__ import annotations

import numpy as np
from numba import carray

from barlowctl.kernel_cache import cfunc, njit
from barlowctl.model.thread_tiles import SHARED, TASK, floats, take, together, words
from barlowctl.model.winograd_kernels import (
    BLOCK,
    KERNEL,
    convolve,
    correlate,
    gather_gradient,
    transform_turned_weights,
    transform_weights,
)
from barlowctl.model.winograd_vectors import ALL, LANES

AT_A_TIME = 16
"""Rows of weights of a tile: what `transform_weights` takes at least."""

FIELDS = 22  # of a task
(
    NEXT, SLOT, X, GRADIENT, WEIGHTS, Y, ZEROS, FIRST_ROOM, SECOND_ROOM, FIRST_SIZE, SECOND_SIZE,
    N, HEIGHT, WIDTH, CHANNELS, OUT, GROUP, LINES, IMAGES, PARTS, FOURTHS, ACROSS,
) = range(FIELDS)  # fmt: skip
"""A task, int64: the next tile, and the next thread's place in the rooms; then addresses and sizes, in bytes."""


@njit(**KERNEL)
def shape_of(task):
    """n, height, width, channels, out: see `winograd_kernels`."""
    return task[N], task[HEIGHT], task[WIDTH], task[CHANNELS], task[OUT]


@cfunc(TASK, **SHARED)
def convolve_tiles(address):
    """Some images: see `convolve`."""
    task = carray(address, (FIELDS,))
    n, height, width, channels, out = shape_of(task)
    slot = take(address, SLOT)
    first_room = task[FIRST_ROOM] + slot * task[FIRST_SIZE]
    second_room = task[SECOND_ROOM] + slot * task[SECOND_SIZE]
    while True:
        first = take(address, NEXT) * task[GROUP]
        if first >= n:
            return
        count = min(task[GROUP], n - first)
        x = task[X] + first * height * width * channels * 2
        y = task[Y] + first * height * width * out * 2
        shape = count, height, width, channels, out
        convolve(x, task[WEIGHTS], y, task[ZEROS], first_room, second_room, shape, count, task[LINES])


@cfunc(TASK, **SHARED)
def transform_tiles(address):
    """Some rows of weights: see `transform_weights`."""
    task = carray(address, (FIELDS,))
    _, _, _, channels, out = shape_of(task)
    weight = carray(floats(task[X]), (out, 3, 3, channels))
    matrices = carray(words(task[Y]), (out // BLOCK, 4, 3, channels // 2, BLOCK))
    while True:
        begin = take(address, NEXT) * AT_A_TIME
        if begin >= out:
            return
        transform_weights(weight, matrices, begin, begin + AT_A_TIME)


@cfunc(TASK, **SHARED)
def turn_tiles(address):
    """Some pairs of rows of weights: see `transform_turned_weights`."""
    task = carray(address, (FIELDS,))
    _, _, _, channels, out = shape_of(task)
    weight = carray(floats(task[X]), (out, 3, 3, channels))
    matrices = carray(words(task[Y]), (channels // BLOCK, 4, 3, out // 2, BLOCK))
    while True:
        begin = take(address, NEXT) * AT_A_TIME
        if begin >= out // 2:
            return
        transform_turned_weights(weight, matrices, begin, begin + AT_A_TIME)


@cfunc(TASK, **SHARED)
def correlate_tiles(address):
    """The products of some images, or some of those: see `correlate`."""
    task = carray(address, (FIELDS,))
    shape, slot = shape_of(task), take(address, SLOT)
    n, channels, out = task[N], task[CHANNELS], task[OUT]
    inputs = task[FIRST_ROOM] + slot * task[FIRST_SIZE]
    gradients = task[SECOND_ROOM] + slot * task[SECOND_SIZE]
    rows, fourths, across = out // LANES, task[FOURTHS], task[ACROSS]
    while True:
        tile = take(address, NEXT)
        part = tile // (fourths * across)
        if part >= task[PARTS]:
            return
        images = part * task[IMAGES], min(n, (part + 1) * task[IMAGES])
        k = tile // across % fourths if fourths == 4 else ALL
        number = tile % across
        own = number * rows // across, (number + 1) * rows // across
        x, gradient, zeros = task[X], task[GRADIENT], task[ZEROS]
        products = task[Y] + part * 12 * out * channels * 4
        correlate(x, gradient, zeros, inputs, gradients, products, shape, task[GROUP], task[LINES], images, k, own)


@cfunc(TASK, **SHARED)
def gather_tiles(address):
    """Some rows of the gradient of the weights: see `gather_gradient`."""
    task = carray(address, (FIELDS,))
    _, _, _, channels, out = shape_of(task)
    products = carray(floats(task[X]), (task[PARTS], 4, 3, out, channels))
    gradient = carray(floats(task[Y]), (out, 3, 3, channels))
    while True:
        begin = take(address, NEXT) * AT_A_TIME
        if begin >= out:
            return
        gather_gradient(products, gradient, begin, begin + AT_A_TIME)


@njit(**KERNEL)
def call_together(crew, function, task):
    """Have the crew's threads call a function with a task, from its first tile on."""
    team, threads = crew
    task[NEXT], task[SLOT] = 0, 0
    together(team, function, task.ctypes.data, threads)


def task_of(shape: tuple[int, ...], **fields: int) -> np.ndarray:
    """A task of a convolution of shape n, height, width, channels, out."""
    task = np.zeros(FIELDS, np.int64)
    task[N : OUT + 1] = shape
    for name, value in fields.items():
        task[globals()[name.upper()]] = value
    return task
