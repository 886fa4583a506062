"""Batch norm, ReLU and 3 x 3 maximum pooling with a stride of 2, image by image: the rectified map is not kept.

bfloat16 or float32 in memory (`like`: see `number_formats`). What a ReLU has made is not below 0, so that its numbers
are compared by their bits; what is no number is the largest, and stays so. Sums of an image are float32, those of a
batch float64: results are the same on any number of threads.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import torch
from numba import carray

from barlowctl.kernel_cache import cfunc, njit
from barlowctl.kernels import thread_tiles as tiles
from barlowctl.kernels.batch_norm import threads as norm_threads
from barlowctl.kernels.batch_norm.loops import settle_factors, settle_gradient
from barlowctl.kernels.batch_norm.threads import count_parts, loops_of, measure, vectors_of, work_of
from barlowctl.kernels.compiling import KERNEL
from barlowctl.kernels.number_formats import LIKE, itemsize
from barlowctl.kernels.stem.lines import PADDING, SIDE, STRIDE, pool_line, pooled_side, sum_line, write_line
from barlowctl.kernels.thread_tiles import TASK, call, clear, floats, take

FIELDS = 15  # of a task
(
    NEXT, IMAGES, HEIGHT, WIDTH, CHANNELS, SOURCE, POOLED, PLACES, TARGET, SUMS, CENTRE, SCALE, SHIFT, SLOPE, OFFSET,
) = range(FIELDS)  # fmt: skip
"""A task, int64: the next image; sizes of a map, and addresses."""
SHARED = {**tiles.SHARED, "fastmath": KERNEL["fastmath"]}


@njit(**KERNEL)
def values_of(task, name, count):
    """The float32 values at an address of a task."""
    return carray(floats(task[name]), (count,))


@njit(**KERNEL)
def places_of(task, image, like):
    """Addresses of an image's map, of its gradient, of the result and of the places."""
    channels = task[CHANNELS]
    whole = image * task[HEIGHT] * task[WIDTH] * channels
    begin = image * pooled_side(task[HEIGHT]) * pooled_side(task[WIDTH]) * channels
    size = itemsize(like)
    return task[SOURCE] + size * whole, task[TARGET] + size * whole, task[POOLED] + size * begin, task[PLACES] + begin


def _pooling(like: Any) -> Any:
    kernels = loops_of(like)

    @cfunc(TASK, **SHARED)
    def pool_images(address):
        """The results of images. The last is first: it was read last."""
        task = carray(address, (FIELDS,))
        height, width, channels = task[HEIGHT], task[WIDTH], task[CHANNELS]
        scale, shift = values_of(task, SCALE, channels), values_of(task, SHIFT, channels)
        shape, across, size = (height, width, channels), pooled_side(width) * channels, itemsize(like) * channels
        room = np.zeros((SIDE + 1) * width * size, np.uint8)
        lines = room.ctypes.data
        zeros = lines + SIDE * width * size
        while True:
            image = task[IMAGES] - 1 - take(address, NEXT)
            if image < 0:
                return
            x, _, pooled, places = places_of(task, image, like)
            done = 0
            for line in range(pooled_side(height)):
                first = STRIDE * line - PADDING
                while done < min(height, first + SIDE):
                    slot = lines + done % SIDE * width * size
                    kernels.write_values(x + done * width * size, slot, like, width, channels, scale, shift, True)
                    done += 1
                own = (
                    lines + first % SIDE * width * size if first >= 0 else zeros,
                    lines + (first + 1) % SIDE * width * size,
                    lines + (first + 2) % SIDE * width * size if first + 2 < height else zeros,
                )
                out, at = pooled + itemsize(like) * line * across, places + line * across
                pool_line(own, like, shape, zeros, out, at)

    return pool_images


def _summing(like: Any) -> Any:
    @cfunc(TASK, **SHARED)
    def sum_images(address):
        """Of images the sums of the gradient, and of its product with the map."""
        task = carray(address, (FIELDS,))
        shape, channels = (task[HEIGHT], task[WIDTH], task[CHANNELS]), task[CHANNELS]
        own = np.empty((2, channels), np.float32)
        total, product = own[0].ctypes.data, own[1].ctypes.data
        while True:
            image = take(address, NEXT)
            if image >= task[IMAGES]:
                return
            x, _, gradient, places = places_of(task, image, like)
            sums = np.zeros((2, channels))
            for line in range(pooled_side(task[HEIGHT])):
                clear(total, own.nbytes)
                sum_line(gradient, places, x, like, line, shape, task[CENTRE], total, product)
                for which in range(2):
                    for c in range(channels):
                        sums[which, c] += own[which, c]
            out = carray(floats(task[SUMS] + 8 * image * channels), (2, channels))
            for which in range(2):
                for c in range(channels):
                    out[which, c] = sums[which, c]

    return sum_images


def _writing(like: Any) -> Any:
    @cfunc(TASK, **SHARED)
    def write_images(address):
        """The gradients of images. The last is first: it was read last."""
        task = carray(address, (FIELDS,))
        shape = task[HEIGHT], task[WIDTH], task[CHANNELS]
        while True:
            image = task[IMAGES] - 1 - take(address, NEXT)
            if image < 0:
                return
            x, target, gradient, places = places_of(task, image, like)
            for line in range(task[HEIGHT]):
                begin = itemsize(like) * line * task[WIDTH] * task[CHANNELS]
                factors = task[SCALE], task[SLOPE], task[OFFSET]
                write_line(gradient, places, x + begin, like, line, shape, *factors, target + begin)

    return write_images


@cache
def _functions(dtype: torch.dtype) -> tuple[int, ...]:
    like = LIKE[dtype]
    return _pooling(like).address, _summing(like).address, _writing(like).address


def team_of(parallel: int | None, threads: int, dtype: torch.dtype) -> tuple[int, ...]:
    """Who works: see `batch_norm.threads.team_of`, whose tiles are summed; then the addresses of what is done here."""
    return *norm_threads.team_of(parallel, threads, dtype)[:3], *_functions(dtype)


@njit(**KERNEL)
def task_of(sizes, channels, values):
    """A task of a part's images, without what differs from part to part.

    sizes: images, and height and width of a map.
    """
    task = np.zeros(FIELDS, np.int64)
    task[IMAGES], task[HEIGHT], task[WIDTH] = sizes
    task[CHANNELS] = channels
    for row in range(OFFSET - CENTRE + 1):
        task[CENTRE + row] = values[row].ctypes.data
    return task


@njit(**KERNEL)
def pooled_numbers(sizes, channels):
    """How many numbers the result of a part has."""
    return sizes[0] * pooled_side(sizes[1]) * pooled_side(sizes[2]) * channels


@njit(**KERNEL)
def normalize(team, source, pooled, places, like, shape, sizes, parameters, counted, eps, momentum):
    """pooled = the largest of each window of what `batch_norm.threads.normalize` would write, rectified; and places.

    Args:
        shape, parameters, counted, eps, momentum: see there. sizes: see `task_of`.
    """
    parts, rows, width = shape
    weight, bias, statistics, mean_so_far, variance_so_far = vectors_of(parameters, parts, width)
    running = mean_so_far, variance_so_far
    count_parts(counted, parts)
    summing, sums, values = work_of(rows, width)
    task = task_of(sizes, width, values)
    for part in range(parts):
        begin, written = itemsize(like) * part * rows * width, part * pooled_numbers(sizes, width)
        mean, inverse = statistics[0, part], statistics[1, part]
        summing[norm_threads.SOURCE] = task[SOURCE] = source + begin
        measure(team, summing, sums, values[0], like, rows, eps, mean, inverse, running, momentum)
        settle_factors(weight, bias, mean, inverse, values[1], values[2])
        task[POOLED], task[PLACES] = pooled + itemsize(like) * written, places + written
        call(team, team[3], task)


@njit(**KERNEL)
def differentiate(team, gradient, places, source, target, like, shape, sizes, parameters):
    """target = the gradient of `source`, from that of `normalize`'s result.

    Args:
        parameters: addresses of weight, bias and statistics; and of the gradients of weight and bias, written.
    """
    parts, rows, width = shape
    weight, bias, statistics, of_weight, of_bias = vectors_of(parameters, parts, width)
    clear(parameters[3], of_weight.nbytes)
    clear(parameters[4], of_bias.nbytes)
    values, sums = np.empty((OFFSET - CENTRE + 1, width), np.float32), np.empty((sizes[0], 2, width), np.float32)
    task = task_of(sizes, width, values)
    task[SUMS] = sums.ctypes.data
    for part in range(parts):
        begin, written = itemsize(like) * part * rows * width, part * pooled_numbers(sizes, width)
        mean, inverse = statistics[0, part], statistics[1, part]
        task[SOURCE], task[TARGET] = source + begin, target + begin
        task[POOLED], task[PLACES] = gradient + itemsize(like) * written, places + written
        for c in range(width):
            values[0, c] = mean[c]
        settle_factors(weight, bias, mean, inverse, values[1], values[2])
        call(team, team[4], task)
        total, product = np.zeros(width), np.zeros(width)
        for image in range(sizes[0]):
            for c in range(width):
                total[c] += sums[image, 0, c]
                product[c] += sums[image, 1, c]
        settle_gradient(total, product, rows, mean, inverse, of_weight, of_bias, values[1], values[3], values[4])
        call(team, team[5], task)
