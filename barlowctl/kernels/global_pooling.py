"""The loops of global pooling, mean and maximum beside one another, over maps in memory as (images, pixels, channels).

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
from barlowctl.kernels.thread_tiles import TASK, take, words

FIELDS = 7
NEXT, IMAGES, PIXELS, CHANNELS, MAP, POOLED, PLACES = range(FIELDS)
"""A task, int64: the next image; sizes, and addresses. PLACES: of each maximum the pixel, the first of equal ones."""
SHARED = {**tiles.SHARED, "fastmath": KERNEL["fastmath"]}


@njit(**KERNEL)
def pool(source, pooled, places, like, pixels, channels):
    """Mean and maximum of an image: (2, channels)."""
    sums, most = np.zeros(channels, np.float32), np.full(channels, -np.inf, np.float32)
    where = np.zeros(channels, np.uint32)
    for pixel in range(pixels):
        x = carray(pointer(source + itemsize(like) * pixel * channels, like), (channels,))
        for c in range(channels):
            value = wide(x[c])
            sums[c] += value
            if value > most[c] or value != value:
                most[c], where[c] = value, np.uint32(pixel)
    means = carray(pointer(pooled, like), (channels,))
    maxima = carray(pointer(pooled + itemsize(like) * channels, like), (channels,))
    pixel_of = carray(words(places), (channels,))
    for c in range(channels):
        means[c] = narrow(sums[c] / np.float32(pixels), like)
        maxima[c] = narrow(most[c], like)
        pixel_of[c] = where[c]


@njit(**KERNEL)
def spread(target, pooled, places, like, pixels, channels):
    """The gradient of an image, of that of its mean and maximum."""
    means = carray(pointer(pooled, like), (channels,))
    maxima = carray(pointer(pooled + itemsize(like) * channels, like), (channels,))
    pixel_of = carray(words(places), (channels,))
    for pixel in range(pixels):
        x = carray(pointer(target + itemsize(like) * pixel * channels, like), (channels,))
        for c in range(channels):
            value = wide(means[c]) / np.float32(pixels)
            x[c] = narrow(value + wide(maxima[c]) if pixel_of[c] == pixel else value, like)


@njit(**KERNEL)
def addresses(task, image, like):
    """Where an image's map, its means and maxima, and the maxima's pixels begin."""
    channels = task[CHANNELS]
    place = task[MAP] + itemsize(like) * image * task[PIXELS] * channels
    return place, task[POOLED] + itemsize(like) * image * 2 * channels, task[PLACES] + 4 * image * channels


@cache
def pooling(dtype: torch.dtype) -> Any:
    """`pool` of every image, of a number format; compiled when it is first used."""
    like = LIKE[dtype]

    @cfunc(TASK, **SHARED)
    def pool_images(address):
        task = carray(address, (FIELDS,))
        while True:
            image = take(address, NEXT)
            if image >= task[IMAGES]:
                return
            place, pooled, places = addresses(task, image, like)
            pool(place, pooled, places, like, task[PIXELS], task[CHANNELS])

    return pool_images


@cache
def spreading(dtype: torch.dtype) -> Any:
    """`spread` of every image."""
    like = LIKE[dtype]

    @cfunc(TASK, **SHARED)
    def spread_images(address):
        task = carray(address, (FIELDS,))
        while True:
            image = take(address, NEXT)
            if image >= task[IMAGES]:
                return
            place, pooled, places = addresses(task, image, like)
            spread(place, pooled, places, like, task[PIXELS], task[CHANNELS])

    return spread_images
