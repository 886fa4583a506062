"""The loops of layer norm over rows in memory, bfloat16 or float32 (`like`: see `number_formats`), float32 inside.

Results and their gradients are bfloat16. What is not a number stays so.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import torch
from numba import carray

from barlowctl.kernel_cache import cfunc, njit
from barlowctl.kernels import thread_tiles as tiles
from barlowctl.kernels.compiling import KERNEL
from barlowctl.kernels.number_formats import LIKE, itemsize, narrow, pointer, wide
from barlowctl.kernels.thread_tiles import TASK, clear, floats, take

FIELDS = 13
NEXT, ROWS, PIECE, WIDTH, X, Y, GRADIENT, OF_X, WEIGHT, BIAS, MOMENTS, SUMS, EPSILON = range(FIELDS)
"""A task, int64: the next piece; rows, those of a piece, numbers of each; then addresses.

X, OF_X: rows in `like`. Y, GRADIENT: of results, bfloat16. WEIGHT, BIAS, EPSILON: float32.
MOMENTS (ROWS, 2), float32: of each row the mean, and 1 / its standard deviation.
SUMS (pieces, 2, WIDTH), float32: the gradients of weight and bias by each piece, zeros at first.
"""
SHARED = {**tiles.SHARED, "fastmath": KERNEL["fastmath"]}
BF16 = LIKE[torch.bfloat16]


@njit(**KERNEL)
def normalize(source, target, like, width, weight, bias, epsilon):
    """A row: (x - mean) / standard deviation, times weights, plus biases. Returns: mean, 1 / standard deviation."""
    x, y = carray(pointer(source, like), (width,)), carray(pointer(target, BF16), (width,))
    w, b = carray(floats(weight), (width,)), carray(floats(bias), (width,))
    total, squares = np.float32(0.0), np.float32(0.0)
    for c in range(width):
        total += wide(x[c])
    mean = total / np.float32(width)
    for c in range(width):
        squares += (wide(x[c]) - mean) * (wide(x[c]) - mean)
    factor = np.float32(1.0) / np.sqrt(squares / np.float32(width) + epsilon)
    for c in range(width):
        y[c] = narrow((wide(x[c]) - mean) * factor * w[c] + b[c], BF16)
    return mean, factor


@njit(**KERNEL)
def differentiate(source, gradient, target, like, width, weight, moments, sums):
    """The gradient of a row; those of weights and biases by it are added to sums (2, width)."""
    x, g = carray(pointer(source, like), (width,)), carray(pointer(gradient, BF16), (width,))
    w, of_x = carray(floats(weight), (width,)), carray(pointer(target, like), (width,))
    of_w, of_b = carray(floats(sums), (width,)), carray(floats(sums + 4 * width), (width,))
    mean, factor = moments
    total, product = np.float32(0.0), np.float32(0.0)
    for c in range(width):
        normal = (wide(x[c]) - mean) * factor
        own = wide(g[c])
        of_w[c] += own * normal
        of_b[c] += own
        total += own * w[c]
        product += own * w[c] * normal
    total, product = total / np.float32(width), product / np.float32(width)
    for c in range(width):
        normal = (wide(x[c]) - mean) * factor
        of_x[c] = narrow((wide(g[c]) * w[c] - total - normal * product) * factor, like)


def _normalizing(like: Any) -> Any:
    @cfunc(TASK, **SHARED)
    def normalize_pieces(address):
        task = carray(address, (FIELDS,))
        width, size = task[WIDTH], task[WIDTH] * itemsize(like)
        moments = carray(floats(task[MOMENTS]), (2 * task[ROWS],))
        epsilon = carray(floats(task[EPSILON]), (1,))[0]
        while True:
            begin = take(address, NEXT) * task[PIECE]
            if begin >= task[ROWS]:
                return
            for row in range(begin, min(begin + task[PIECE], task[ROWS])):
                x, y = task[X] + row * size, task[Y] + row * width * 2
                mean, factor = normalize(x, y, like, width, task[WEIGHT], task[BIAS], epsilon)
                moments[2 * row], moments[2 * row + 1] = mean, factor

    return normalize_pieces


def _differentiating(like: Any) -> Any:
    @cfunc(TASK, **SHARED)
    def differentiate_pieces(address):
        task = carray(address, (FIELDS,))
        width, size = task[WIDTH], task[WIDTH] * itemsize(like)
        moments = carray(floats(task[MOMENTS]), (2 * task[ROWS],))
        while True:
            piece = take(address, NEXT)
            begin = piece * task[PIECE]
            if begin >= task[ROWS]:
                return
            sums = task[SUMS] + piece * 2 * width * 4
            clear(sums, 2 * width * 4)
            for row in range(begin, min(begin + task[PIECE], task[ROWS])):
                x, g, of_x = task[X] + row * size, task[GRADIENT] + row * width * 2, task[OF_X] + row * size
                own = moments[2 * row], moments[2 * row + 1]
                differentiate(x, g, of_x, like, width, task[WEIGHT], own, sums)

    return differentiate_pieces


@cache
def normalizing(dtype: torch.dtype) -> Any:
    """`normalize` of every row, of a number format; compiled when it is first used."""
    return _normalizing(LIKE[dtype])


@cache
def differentiating(dtype: torch.dtype) -> Any:
    """`differentiate` of every row."""
    return _differentiating(LIKE[dtype])
