"""The loops of squeeze-and-excitation over maps in memory as (images, pixels, channels): means, products with gates.

bfloat16 or float32 in memory (`like`: see `number_formats`), float32 inside. What is not a number stays so.
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

FIELDS = 9
NEXT, IMAGES, PIXELS, CHANNELS, MAP, OTHER, GATES, MEANS, ROOM = range(FIELDS)
"""A task, int64: the next image; sizes, and addresses.

MAP, OTHER: (images, pixels, channels), of which one may be a gradient or a result. GATES, MEANS: (images, channels).
ROOM, float32 (images, channels).
"""
AVERAGE, GATE, OF_GATES, OF_MAP = range(4)
"""What is computed of a map: `average`, `gate`, `differentiate_gates`, `differentiate_map`."""
SHARED = {**tiles.SHARED, "fastmath": KERNEL["fastmath"]}


@njit(**KERNEL)
def average(task, image, like, sums):
    """MEANS = those of a map's channels."""
    pixels, channels = task[PIXELS], task[CHANNELS]
    row = itemsize(like) * channels
    for pixel in range(pixels):
        x = carray(pointer(task[MAP] + (image * pixels + pixel) * row, like), (channels,))
        for c in range(channels):
            sums[c] += wide(x[c])
    means = carray(pointer(task[MEANS] + image * row, like), (channels,))
    for c in range(channels):
        means[c] = narrow(sums[c] / np.float32(pixels), like)


@njit(**KERNEL)
def gate(task, image, like, sums):
    """OTHER = the map times its gates."""
    pixels, channels = task[PIXELS], task[CHANNELS]
    row = itemsize(like) * channels
    gates = carray(pointer(task[GATES] + image * row, like), (channels,))
    for pixel in range(pixels):
        place = (image * pixels + pixel) * row
        x, y = (
            carray(pointer(task[MAP] + place, like), (channels,)),
            carray(pointer(task[OTHER] + place, like), (channels,)),
        )
        for c in range(channels):
            y[c] = narrow(wide(x[c]) * wide(gates[c]), like)


@njit(**KERNEL)
def differentiate_gates(task, image, like, sums):
    """GATES = their gradients: of each channel the sum of the products of both maps, of which OTHER is a gradient."""
    pixels, channels = task[PIXELS], task[CHANNELS]
    row = itemsize(like) * channels
    for pixel in range(pixels):
        place = (image * pixels + pixel) * row
        x, g = (
            carray(pointer(task[MAP] + place, like), (channels,)),
            carray(pointer(task[OTHER] + place, like), (channels,)),
        )
        for c in range(channels):
            sums[c] += wide(x[c]) * wide(g[c])
    gates = carray(pointer(task[GATES] + image * row, like), (channels,))
    for c in range(channels):
        gates[c] = narrow(sums[c], like)


@njit(**KERNEL)
def differentiate_map(task, image, like, sums):
    """MAP = OTHER, a gradient, times the gates, and each pixel's part of the gradient of the means."""
    pixels, channels = task[PIXELS], task[CHANNELS]
    row = itemsize(like) * channels
    gates = carray(pointer(task[GATES] + image * row, like), (channels,))
    means = carray(pointer(task[MEANS] + image * row, like), (channels,))
    for c in range(channels):
        sums[c] = wide(means[c]) / np.float32(pixels)
    for pixel in range(pixels):
        place = (image * pixels + pixel) * row
        of_x, g = (
            carray(pointer(task[MAP] + place, like), (channels,)),
            carray(pointer(task[OTHER] + place, like), (channels,)),
        )
        for c in range(channels):
            of_x[c] = narrow(wide(g[c]) * wide(gates[c]) + sums[c], like)


@cache
def of_every_image(which: int, dtype: torch.dtype) -> Any:
    """One of the functions above for every image, of a number format; compiled when it is first used.

    which: `AVERAGE`, `GATE`, `OF_GATES` or `OF_MAP`.
    """
    like = LIKE[dtype]

    @cfunc(TASK, **SHARED)
    def images(address):
        task = carray(address, (FIELDS,))
        while True:
            image = take(address, NEXT)
            if image >= task[IMAGES]:
                return
            place = task[ROOM] + 4 * image * task[CHANNELS]
            clear(place, 4 * task[CHANNELS])
            sums = carray(floats(place), (task[CHANNELS],))
            if which == AVERAGE:
                average(task, image, like, sums)
            elif which == GATE:
                gate(task, image, like, sums)
            elif which == OF_GATES:
                differentiate_gates(task, image, like, sums)
            else:
                differentiate_map(task, image, like, sums)

    return images
