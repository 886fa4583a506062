"""Gradients of depthwise convolutions of maps in memory as (images, height, width, channels), by torch's threads.

An image's strip of channels is laid out in float32 with the padding around it, in the processor's second cache; the
gradient of the result with zeros between its pixels where there is a stride, so that the gradient of the map is a
convolution without one. Each thread takes piece after piece: a strip of some images, of which the gradient of the
weights is summed, whatever the number of threads.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import torch
from numba import carray

from barlowctl.kernel_cache import cfunc, njit
from barlowctl.kernels.compiling import KERNEL
from barlowctl.kernels.depthwise.vector_code import MOST_PIXELS, MOST_TAPS, correlate, sum_to_bf16, sum_to_float32
from barlowctl.kernels.float_vectors import LANES
from barlowctl.kernels.number_formats import LIKE, itemsize, pointer, wide
from barlowctl.kernels.thread_tiles import SHARED, TASK, clear, floats, new_task, take

FIELDS = 24  # of a task
(
    NEXT, SLOT, X, GRADIENT, WEIGHTS, Y, OF_WEIGHT, ROOM, ROOM_SIZE, IMAGES, GROUP, CHANNELS, STRIP, STRIPS,
    HEIGHT, WIDTH, HIGH, WIDE, KERNEL_HEIGHT, KERNEL_WIDTH, STRIDE_DOWN, STRIDE_ACROSS, TOP, LEFT,
) = range(FIELDS)  # fmt: skip
"""A task, int64: the next piece, and the next thread's place in the rooms; then addresses, 0 where nothing is wanted.

WEIGHTS: (taps, CHANNELS). GROUP: images of a piece. STRIP: channels of it, the last of a map's begin earlier so that
they are as many. (HEIGHT, WIDTH): of the map; (HIGH, WIDE): of the result. TOP, LEFT: the padding.
"""


def task_of(**fields: int) -> np.ndarray:
    """A task."""
    return new_task(FIELDS, globals(), fields)


@njit(**KERNEL)
def widen_pixel(source, like, target, channels):
    """Write some numbers of a map as float32."""
    given, taken = carray(pointer(source, like), (channels,)), carray(floats(target), (channels,))
    for c in range(channels):
        taken[c] = wide(given[c])


@njit(**KERNEL)
def lay(source, like, size, channels, strip, target, place, apart, across):
    """Lay out the pixels of an image, of `size`, in rows of `across` pixels at a target.

    channels: of the image, of which a strip is laid out. place: of the first pixel, and how far `apart` they lie.
    """
    for row in range(size[0]):
        line = target + ((place[0] + row * apart[0]) * across + place[1]) * strip * 4
        for column in range(size[1]):
            pixel = source + (row * size[1] + column) * channels * itemsize(like)
            widen_pixel(pixel, like, line + column * apart[1] * strip * 4, strip)


@njit(**KERNEL)
def convolve_image(task, begin, g, g_across, target, like):
    """The gradient of a strip of an image, from that of the result as it is laid out: by the taps from the last on."""
    strip, rows, columns, channels = task[STRIP], task[KERNEL_HEIGHT], task[KERNEL_WIDTH], task[CHANNELS]
    pixel, out_pixel, vectors, width = strip * 4, channels * itemsize(like), strip // LANES, task[WIDTH]
    weights, taps = task[WEIGHTS] + ((rows * columns - 1) * channels + begin) * 4, -channels * 4
    for row in range(task[HEIGHT]):
        done = 0
        while done < width:
            some = MOST_PIXELS
            while some > width - done:
                some //= 2
            seen, y = g + (row * g_across + done) * pixel, target + (row * width + done) * out_pixel
            if itemsize(like) == 2:
                sum_to_bf16(some, vectors, rows, columns, seen, g_across * pixel, pixel, weights, taps, y, out_pixel)
            else:
                sum_to_float32(some, vectors, rows, columns, seen, g_across * pixel, pixel, weights, taps, y, out_pixel)
            done += some


@njit(**KERNEL)
def correlate_image(task, x, x_across, g, g_across, sums):
    """Add an image's share of the gradient of the weights to sums (taps, STRIP). x, g: as they are laid out."""
    columns, pixel = task[KERNEL_WIDTH], task[STRIP] * 4
    down, aside = task[STRIDE_DOWN], task[STRIDE_ACROSS]
    first = g + ((task[KERNEL_HEIGHT] - 1 - task[TOP]) * g_across + columns - 1 - task[LEFT]) * pixel
    for row in range(task[KERNEL_HEIGHT]):
        for column in range(0, columns, MOST_TAPS):
            correlate(
                min(MOST_TAPS, columns - column), task[STRIP] // LANES, task[HIGH], task[WIDE],
                x + (row * x_across + column) * pixel, down * x_across * pixel, aside * pixel, pixel,
                first, down * g_across * pixel, aside * pixel, sums + (row * columns + column) * pixel, pixel,
            )  # fmt: skip


@njit(**KERNEL)
def begin_of(task, strip):
    """The first channel of a strip."""
    return min(strip * task[STRIP], task[CHANNELS] - task[STRIP])


@njit(**KERNEL)
def laid_size(task):
    """Numbers of a strip of the map with its padding; and pixels of a row of it."""
    across = task[WIDTH] + 2 * task[LEFT]
    return (task[HEIGHT] + 2 * task[TOP]) * across * task[STRIP], across


@njit(**KERNEL)
def spread_size(task):
    """The same of the gradient of the result, spread for that of the map."""
    across = task[WIDTH] + task[KERNEL_WIDTH] - 1
    return (task[HEIGHT] + task[KERNEL_HEIGHT] - 1) * across * task[STRIP], across


def _differentiating(like: Any) -> Any:
    @cfunc(TASK, **SHARED)
    def differentiate(address):
        """Of strips of groups of images: y, the gradient of x; OF_WEIGHT (groups, taps, CHANNELS), that of weights."""
        task = carray(address, (FIELDS,))
        room = task[ROOM] + take(address, SLOT) * task[ROOM_SIZE]
        (laid, x_across), (spread, g_across) = laid_size(task), spread_size(task)
        strip, channels, taps = task[STRIP], task[CHANNELS], task[KERNEL_HEIGHT] * task[KERNEL_WIDTH]
        g_room, sums = room + laid * 4, room + (laid + spread) * 4
        clear(room, (laid + spread) * 4)
        map, result = (task[HEIGHT], task[WIDTH]), (task[HIGH], task[WIDE])
        pixels, results = map[0] * map[1] * channels, result[0] * result[1] * channels
        behind = task[KERNEL_HEIGHT] - 1 - task[TOP], task[KERNEL_WIDTH] - 1 - task[LEFT]
        apart = task[STRIDE_DOWN], task[STRIDE_ACROSS]
        while True:
            piece = take(address, NEXT)
            group, begin = piece // task[STRIPS], begin_of(task, piece % task[STRIPS])
            if group * task[GROUP] >= task[IMAGES]:
                return
            clear(sums, taps * strip * 4)
            for image in range(group * task[GROUP], min(task[IMAGES], (group + 1) * task[GROUP])):
                g = task[GRADIENT] + (image * results + begin) * itemsize(like)
                lay(g, like, result, channels, strip, g_room, behind, apart, g_across)
                place = (image * pixels + begin) * itemsize(like)
                if task[Y] != 0:
                    convolve_image(task, begin, g_room, g_across, task[Y] + place, like)
                if task[OF_WEIGHT] != 0:
                    lay(task[X] + place, like, map, channels, strip, room, (task[TOP], task[LEFT]), (1, 1), x_across)
                    correlate_image(task, room, x_across, g_room, g_across, sums)
            if task[OF_WEIGHT] != 0:
                for tap in range(taps):
                    target = task[OF_WEIGHT] + ((group * taps + tap) * channels + begin) * 4
                    widen_pixel(sums + tap * strip * 4, np.float32(0.0), target, strip)

    return differentiate


@cache
def differentiating(dtype: torch.dtype) -> Any:
    """The function of C for maps of a number format, compiled when it is first used."""
    return _differentiating(LIKE[dtype])
