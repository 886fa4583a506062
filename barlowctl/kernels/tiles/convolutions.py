"""Convolutions of bfloat16 by a processor's tiles (see `sums`), pixel by pixel of a map, by torch's threads.

A product's rows, or what it sums over, are the images of a batch at one pixel, 32 at a time: no tap of a kernel that
sees padding is multiplied, whatever the stride, and a map may be small. Each thread takes piece after piece; a number
of a result is the sum of the same products in the same order whoever computes it.
"""

from __future__ import annotations

import numpy as np
from numba import carray

from barlowctl.kernel_cache import cfunc, njit
from barlowctl.kernels.compiling import KERNEL
from barlowctl.kernels.thread_tiles import SHARED, TASK, new_task, take, words
from barlowctl.kernels.tiles.memory import LINE, ROWS, SIDE, round_row
from barlowctl.kernels.tiles.packing import (
    FACTOR,
    pack_gradients,
    pack_images,
    pack_seen,
    pack_turned_weights,
    pack_weights,
    row_of,
)
from barlowctl.kernels.tiles.sums import add_products, clear_sums, configure, load_sums, release, store_sums

FIELDS = 23  # of a task
(
    NEXT, SLOT, CONFIGURATION, X, GRADIENT, WEIGHTS, Y, ZEROS, ROOM, ROOM_SIZE, PACKED, PACKED_GRADIENT,
    STARTS, RUNS, IMAGES, PIXELS, CHANNELS, RESULT_PIXELS, OUT, TAPS, ACROSS, GROUP, TURNED,
) = range(FIELDS)  # fmt: skip
"""A task, int64: the next piece, and the next thread's place in the rooms; then addresses, sizes in bytes, and numbers.

STARTS: of each pixel's, or tap's, RUNS the first, and the end of the last one's. GROUP: times 32 images of a piece.
"""


@njit(**KERNEL)
def numbers_at(address, size):
    """The uint32 numbers there."""
    return carray(words(address), (size,))


@cfunc(TASK, **SHARED)
def weight_pieces(address):
    """Factors of weights, y, for 32 channels of a result."""
    task = carray(address, (FIELDS,))
    taps, channels, out, turned = task[TAPS], task[CHANNELS], task[OUT], task[TURNED]
    results, summed = (channels, out) if turned == 1 else (out, channels)
    while True:
        block = take(address, NEXT)
        if block * SIDE >= results:
            return
        target = task[Y] + block * taps * (summed // SIDE) * FACTOR
        if turned == 1:
            pack_turned_weights(task[WEIGHTS], taps, channels, out, block, target)
        else:
            pack_weights(task[WEIGHTS], taps, channels, out, block, target)


@njit(**KERNEL)
def convolve_block(task, images, packed, block, room):
    """32 channels of a result's pixels, of the images from the first of a piece on, which are packed."""
    channels, out, taps, pixels = task[CHANNELS], task[OUT], task[TAPS], task[PIXELS]
    row = row_of(channels)
    weights = task[WEIGHTS] + block * taps * (channels // SIDE) * FACTOR
    starts = numbers_at(task[STARTS], task[RESULT_PIXELS] + 1)
    runs = numbers_at(task[RUNS], 2 * np.int64(starts[task[RESULT_PIXELS]]))
    first, count = images
    for pixel in range(task[RESULT_PIXELS]):
        for part in range(-(-count // SIDE)):
            clear_sums(room, 2 * LINE)
            for run in range(starts[pixel], starts[pixel + 1]):
                seen, tap = np.int64(runs[2 * run]), np.int64(runs[2 * run + 1])
                left = packed + (part * pixels + seen) * SIDE * row
                right = weights + tap * (channels // SIDE) * FACTOR
                add_products(
                    channels // SIDE, left, row, ROWS * row, LINE, right, 2 * LINE, LINE, FACTOR, room, 2 * LINE
                )
            store_sums(room, 2 * LINE)
            for image in range(min(SIDE, count - part * SIDE)):
                place = (first + part * SIDE + image) * task[RESULT_PIXELS] + pixel
                round_row(room + image * 2 * LINE, task[Y] + (place * out + block * SIDE) * 2)


@cfunc(TASK, **SHARED)
def convolve_pieces(address):
    """Some channels of the results of some images, whose weights are factors; y is (images, pixels, out)."""
    task = carray(address, (FIELDS,))
    own = task[ROOM] + take(address, SLOT) * task[ROOM_SIZE]
    packed, pixels, channels = own + FACTOR * 2, task[PIXELS], task[CHANNELS]
    blocks, across = task[OUT] // SIDE, task[ACROSS]
    configure(task[CONFIGURATION])
    while True:
        piece = take(address, NEXT)
        first = piece // across * task[GROUP] * SIDE
        if first >= task[IMAGES]:
            break
        count = min(task[IMAGES] - first, task[GROUP] * SIDE)
        for part in range(-(-count // SIDE)):
            target = packed + part * pixels * SIDE * row_of(channels)
            pack_images(task[X], task[ZEROS], task[IMAGES], pixels, channels, first + part * SIDE, target)
        begin, end = piece % across * blocks // across, (piece % across + 1) * blocks // across
        for block in range(begin, end):
            convolve_block(task, (first, count), packed, block, own)
    release()


@cfunc(TASK, **SHARED)
def pack_pieces(address):
    """32 images at a pixel of the map, or of the gradient of the result, as factors: (blocks, parts, pixels)."""
    task = carray(address, (FIELDS,))
    own = task[ROOM] + take(address, SLOT) * task[ROOM_SIZE]
    images, pixels, results = task[IMAGES], task[PIXELS], task[RESULT_PIXELS]
    parts = -(-images // SIDE)
    while True:
        piece = take(address, NEXT)
        part, pixel = piece // (pixels + results), piece % (pixels + results)
        if part >= parts:
            return
        first = part * SIDE
        if pixel < pixels:
            size = parts * pixels * FACTOR
            target = task[PACKED] + (part * pixels + pixel) * FACTOR
            pack_seen(task[X], task[ZEROS], images, pixels, task[CHANNELS], first, pixel, target, size)
        else:
            pixel -= pixels
            size = parts * results * FACTOR
            target = task[PACKED_GRADIENT] + (part * results + pixel) * FACTOR
            pack_gradients(task[GRADIENT], task[ZEROS], images, results, task[OUT], first, pixel, target, size, own)


@cfunc(TASK, **SHARED)
def correlate_pieces(address):
    """The gradient, float32, of weights y (out, taps, channels) for 32 of each channels, of what is packed."""
    task = carray(address, (FIELDS,))
    parts, group, taps = -(-task[IMAGES] // SIDE), task[GROUP], task[TAPS]
    starts = numbers_at(task[STARTS], taps + 1)
    runs = numbers_at(task[RUNS], 4 * np.int64(starts[taps]))
    seen_blocks, row = task[CHANNELS] // SIDE, taps * task[CHANNELS] * 4
    configure(task[CONFIGURATION])
    while True:
        piece = take(address, NEXT)
        block, seen_block = piece // seen_blocks, piece % seen_blocks
        if block * SIDE >= task[OUT]:
            break
        for begin in range(0, parts, group):
            for tap in range(taps):
                target = task[Y] + block * SIDE * row + (tap * task[CHANNELS] + seen_block * SIDE) * 4
                if begin == 0:
                    clear_sums(target, row)
                else:
                    load_sums(target, row)
                for part in range(begin, min(parts, begin + group)):
                    left = task[PACKED_GRADIENT] + (block * parts + part) * task[RESULT_PIXELS] * FACTOR
                    right = task[PACKED] + (seen_block * parts + part) * task[PIXELS] * FACTOR
                    for run in range(starts[tap], starts[tap + 1]):
                        pixel, seen = np.int64(runs[4 * run]), np.int64(runs[4 * run + 1])
                        count, step = np.int64(runs[4 * run + 2]), np.int64(runs[4 * run + 3])
                        add_products(
                            count, left + pixel * FACTOR, LINE, ROWS * LINE, FACTOR,
                            right + seen * FACTOR, 2 * LINE, LINE, step * FACTOR, target, row,
                        )  # fmt: skip
                store_sums(target, row)
    release()


def task_of(**fields: int) -> np.ndarray:
    """A task."""
    return new_task(FIELDS, globals(), fields)
