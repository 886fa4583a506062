"""The loops of Winograd's convolutions in bfloat16: F(2, 3) along the lines of a map.

Two neighbouring pixels of a result, a tile, take four products instead of six: x and the weight are transformed along
a line, multiplied, and summed over the kernel's lines and the channels, in float32. Lines of the kernel that lie in
the padding are left out. x and results are addresses of bfloat16 (n, height, width, channels); channels and `out`, the
result's, are multiples of 64.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import carray

from barlowctl.kernel_cache import njit
from barlowctl.model.norm_kernels import ZERO, narrow
from barlowctl.model.thread_tiles import floats
from barlowctl.model.winograd_vectors import (
    ALL,
    COLUMNS,
    LANES,
    ROWS,
    accumulate,
    multiply,
    transform,
    transform_gradients,
    transform_inputs,
    write_pixels,
)

BLOCK = COLUMNS * LANES  # channels that are multiplied at a time
HALF = np.float32(0.5)
KERNEL: dict[str, Any] = {"cache": True, "nogil": True, "error_model": "numpy"}


@njit(**KERNEL)
def convolve(x, weights, y, zeros, transformed, products, shape, group, lines):
    """y = the convolution of x with transformed weights.

    Args:
        weights: see `transform_weights`, of `width` channels to `out`. zeros: bfloat16, `channels` of them.
        transformed: for bfloat16 (4, height, group * tiles, channels). products: float32 (4, lines, group * tiles, 64).
        shape: n, height, width, channels, out. group: images at a time. lines: of those, at a time.
    """
    n, height, width, channels, out = shape
    tiles = (width + 1) // 2
    for first in range(0, n, group):
        count = min(group, n - first)
        row = count * tiles
        part = height * row * channels * 2
        for image in range(count):
            for line in range(height):
                source = x + ((first + image) * height + line) * width * channels * 2
                for tile in range(tiles):
                    place = transformed + (line * row + image * tiles + tile) * channels * 2
                    transform(source, zeros, channels, 2 * tile - 1, width, place, part)
        for block in range(out // BLOCK):
            matrices = weights + block * 4 * 3 * channels * BLOCK * 2
            for top in range(0, height, lines):
                bottom = min(height, top + lines)
                for k in range(4):
                    for line in range(top, bottom):
                        own = products + (k * lines + line - top) * row * BLOCK * 4
                        _multiply_line(transformed + k * part, matrices, own, k, line, height, row, channels)
                for line in range(top, bottom):
                    target = y + ((first * height + line) * width * out + block * BLOCK) * 2
                    own = products + (line - top) * row * BLOCK * 4
                    _write_line(own, lines * row * BLOCK * 4, target, count, height, width, out)


@njit(**KERNEL)
def _multiply_line(transformed, matrices, products, k, line, height, row, channels):
    """The k-th sums of products of a line of all images of a group."""
    first = 1 if line == 0 else 0
    taps = 3 - first - (1 if line == height - 1 else 0)
    size = channels * 2
    source = transformed + (line + first - 1) * row * size
    matrix = matrices + (k * 3 + first) * channels * BLOCK * 2
    place = 0
    blocks = -(-row // ROWS)
    for block in range(blocks):
        rows = (row - place + blocks - block - 1) // (blocks - block)
        there = products + place * BLOCK * 4
        multiply(rows, source + place * size, size, row * size, matrix, taps, channels // 2, there)
        place += rows


@njit(**KERNEL)
def _write_line(products, part, target, count, height, width, out):
    tiles = (width + 1) // 2
    for image in range(count):
        for tile in range(tiles):
            own = products + (image * tiles + tile) * BLOCK * 4
            there = target + (image * height * width + 2 * tile) * out * 2
            write_pixels(own, part, there, out * 2, 1 if 2 * tile + 1 < width else 0)


@njit(**KERNEL)
def transform_weights(weight, matrices, begin, end):
    """matrices[:] = the weights of a convolution, transformed.

    Args:
        weight: float32 (out, 3, 3, channels).
        matrices: uint32 (out / 64, 4, 3, channels / 2, 64), pairs of bfloat16 along channels.
        begin, end: of out, multiples of 16.
    """
    channels = weight.shape[3]
    lines = np.empty(12 * 16 * channels, np.uint16)
    own = lines.reshape(12, 16, channels)
    words = lines.view(np.uint32).reshape(12, 16, channels // 2)
    for first in range(begin, end, 16):
        for number in range(16):
            for line in range(3):
                w = weight[first + number, line]
                for c in range(channels):
                    sides, centre = HALF * (w[0, c] + w[2, c]), HALF * w[1, c]
                    own[line, number, c] = narrow(w[0, c])
                    own[3 + line, number, c] = narrow(sides + centre)
                    own[6 + line, number, c] = narrow(sides - centre)
                    own[9 + line, number, c] = narrow(w[2, c])
        block, place = first // BLOCK, first % BLOCK
        for part in range(12):
            target = matrices[block, part // 3, part % 3]
            for pair in range(channels // 2):
                for number in range(16):
                    target[pair, place + number] = words[part, number, pair]


@njit(**KERNEL)
def transform_turned_weights(weight, matrices, begin, end):
    """The same of the weights that the gradient of x is the convolution with: turned by half a turn.

    Args:
        matrices: uint32 (channels / 64, 4, 3, out / 2, 64), pairs along out. begin, end: of those pairs.
    """
    channels = weight.shape[3]
    for pair in range(begin, end):
        for line in range(3):
            w, v = weight[2 * pair, line], weight[2 * pair + 1, line]
            for block in range(channels // BLOCK):
                target = matrices[block, :, 2 - line, pair]
                for c in range(BLOCK):
                    at = block * BLOCK + c
                    sides, others = HALF * (w[0, at] + w[2, at]), HALF * (v[0, at] + v[2, at])
                    centre, other = HALF * w[1, at], HALF * v[1, at]
                    target[0, c] = _pair(w[2, at], v[2, at])
                    target[1, c] = _pair(sides + centre, others + other)
                    target[2, c] = _pair(sides - centre, others - other)
                    target[3, c] = _pair(w[0, at], v[0, at])


@njit(**KERNEL)
def _pair(lower, upper):
    return np.uint32(narrow(lower)) | np.uint32(narrow(upper)) << np.uint32(16)


@njit(**KERNEL)
def correlate(x, gradient, zeros, inputs, gradients, products, shape, group, lines, images, k, part):
    """products = the gradient of the transformed weights from some images, or some of it.

    Args:
        gradient: of the convolution's result. products: address of float32 (4, 3, out, channels).
        inputs: for bfloat16 (4 or 1, channels / 16, (lines + 2) * group * tiles, 16, 2): x transformed, of two images.
        gradients: for bfloat16 (4 or 1, out / 16, lines * group * tiles, 16, 2).
        shape: n, height, width, channels, out. group: pairs of images at a time. lines: of those, at a time.
        images: where they begin and end, an even number of them, or up to the last.
        k: `ALL` of the four numbers that a tile is transformed to, or one. part: where rows begin and end, in 16.
    """
    n, height, width, channels, out = shape
    tiles = (width + 1) // 2
    begin, end = part
    _clear(products, k, part, channels, out)
    for first in range(images[0], images[1], 2 * group):
        count = min(group, (images[1] - first + 1) // 2)
        row = count * tiles
        seen, own = (lines + 2) * row * 64, lines * row * 64
        for top in range(0, height, lines):
            bottom = min(height, top + lines)
            above, below = max(0, top - 1), min(height, bottom + 1)
            for image in range(count):
                number = first + 2 * image
                paired = 1 if number + 1 < n else 0
                for line in range(above, below):
                    source = x + (number * height + line) * width * channels * 2
                    other = paired * (source + height * width * channels * 2)
                    target, next_k = inputs + ((line - above) * row + image * tiles) * 64, channels // LANES * seen
                    transform_inputs(k, source, other, zeros, channels, channels, width, target, seen, next_k)
                for line in range(top, bottom):
                    source = gradient + ((number * height + line) * width * out + begin * LANES) * 2
                    other = paired * (source + height * width * out * 2)
                    target, next_k = gradients + ((line - top) * row + image * tiles) * 64, (end - begin) * own
                    rows = (end - begin) * LANES
                    transform_gradients(k, source, other, zeros, rows, out, width, target, own, next_k)
            chunk = top, bottom, above, row
            _accumulate_all(inputs, gradients, products, chunk, (height, channels, out), lines, k, part)


@njit(**KERNEL)
def _clear(products, k, part, channels, out):
    begin, end = part
    size = (end - begin) * LANES * channels
    for place in range(12) if k == ALL else range(3 * k, 3 * k + 3):
        own = carray(floats(products + (place * out + begin * LANES) * channels * 4), (size,))
        for number in range(size):
            own[number] = ZERO


@njit(**KERNEL)
def _accumulate_all(inputs, gradients, products, chunk, shape, lines, k, part):
    """products += those of the lines from top to bottom, whose inputs begin with the line `above`."""
    top, bottom, above, row = chunk
    height, channels, out = shape
    begin, end = part
    seen, own = (lines + 2) * row * 64, lines * row * 64
    first = 0 if k == ALL else k
    for number in range(4 if k == ALL else 1):
        for block in range(channels // BLOCK):
            for some in range(end - begin):
                for tap in range(3):
                    start, stop = max(top, 1 - tap), min(bottom, height + 1 - tap)
                    if stop <= start:
                        continue
                    x = inputs + (number * (channels // LANES) + block * COLUMNS) * seen
                    x += (start + tap - 1 - above) * row * 64
                    g = gradients + (number * (end - begin) + some) * own + (start - top) * row * 64
                    line = ((first + number) * 3 + tap) * out + (begin + some) * LANES
                    target = products + (line * channels + block * BLOCK) * 4
                    pairs, size = (stop - start) * row, channels * 4
                    accumulate(6, g, x, seen, pairs, target, size)
                    accumulate(5, g + 6 * 4, x, seen, pairs, target + 6 * size, size)
                    accumulate(5, g + 11 * 4, x, seen, pairs, target + 11 * size, size)


@njit(**KERNEL)
def gather_gradient(products, gradient, begin, end):
    """gradient[begin:end] = that of the weights, float32 (out, 3, 3, channels), of `correlate`'s products.

    products: float32 (parts, 4, 3, out, channels), of some images each; added up to the first, in their order.
    """
    channels = products.shape[4]
    for number in range(begin, end):
        for line in range(3):
            for part in range(1, products.shape[0]):
                for k in range(4):
                    total, more = products[0, k, line, number], products[part, k, line, number]
                    for c in range(channels):
                        total[c] += more[c]
            p, g = products[0, :, line, number], gradient[number, line]
            for c in range(channels):
                both, difference = HALF * (p[1, c] + p[2, c]), HALF * (p[1, c] - p[2, c])
                g[0, c] = p[0, c] + both
                g[1, c] = difference
                g[2, c] = p[3, c] + both
