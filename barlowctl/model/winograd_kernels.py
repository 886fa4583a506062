"""The loops of Winograd's convolutions in bfloat16: F(2, 3) along the lines of a map, for one thread.

Two neighbouring pixels of a result, a tile, take four products instead of six: x and the weight are transformed along
a line, multiplied, and summed over the kernel's lines and the channels, in float32. Lines of the kernel that lie in
the padding are left out. x and results are addresses of bfloat16 (n, height, width, channels); channels and `out`, the
result's, are multiples of 64.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from barlowctl.model.norm_kernels import narrow
from barlowctl.model.winograd_vectors import (
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
def transform_weights(weight, lines, matrices):
    """matrices[:] = the weights of a convolution, transformed.

    Args:
        weight: float32 (out, 3, 3, channels). lines: room for 4 * 3 * 16 * channels of uint16.
        matrices: uint32 (out / 64, 4, 3, channels / 2, 64), pairs of bfloat16 along channels.
    """
    out, channels = weight.shape[0], weight.shape[3]
    own = lines.reshape(12, 16, channels)
    words = lines.view(np.uint32).reshape(12, 16, channels // 2)
    for first in range(0, out, 16):
        for number in range(16):
            for line in range(3):
                w = weight[first + number, line]
                for c in range(channels):
                    sides, centre = HALF * (w[0, c] + w[2, c]), HALF * w[1, c]
                    own[line, number, c] = narrow(w[0, c])
                    own[3 + line, number, c] = narrow(sides + centre)
                    own[6 + line, number, c] = narrow(sides - centre)
                    own[9 + line, number, c] = narrow(w[2, c])
        block, begin = first // BLOCK, first % BLOCK
        for part in range(12):
            target = matrices[block, part // 3, part % 3]
            for pair in range(channels // 2):
                for number in range(16):
                    target[pair, begin + number] = words[part, number, pair]


@njit(**KERNEL)
def transform_turned_weights(weight, matrices):
    """The same of the weights that the gradient of x is the convolution with: turned by half a turn.

    matrices: uint32 (channels / 64, 4, 3, out / 2, 64), pairs along out.
    """
    out, channels = weight.shape[0], weight.shape[3]
    for pair in range(out // 2):
        for line in range(3):
            w, v = weight[2 * pair, line], weight[2 * pair + 1, line]
            for block in range(channels // BLOCK):
                target = matrices[block, :, 2 - line, pair]
                begin = block * BLOCK
                for c in range(BLOCK):
                    at = begin + c
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
def correlate(x, gradient, zeros, inputs, gradients, products, shape, group, lines):
    """products += the gradient of the transformed weights.

    Args:
        gradient: of the convolution's result. products: address of float32 (4, 3, out, channels).
        inputs: for bfloat16 (4, channels / 16, (lines + 2) * group * tiles, 16, 2): x transformed, of pairs of images.
        gradients: for bfloat16 (4, out / 16, lines * group * tiles, 16, 2).
        shape: n, height, width, channels, out. group: pairs of images at a time. lines: of those, at a time.
    """
    n, height, width, channels, out = shape
    tiles = (width + 1) // 2
    for first in range(0, n, 2 * group):
        count = min(group, (n - first + 1) // 2)
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
                    target = inputs + ((line - above) * row + image * tiles) * 64
                    for tile in range(tiles):
                        place, column = target + tile * 64, 2 * tile - 1
                        part = channels // LANES * seen
                        transform_inputs(source, other, zeros, channels, column, width, place, part, seen)
                for line in range(top, bottom):
                    source = gradient + (number * height + line) * width * out * 2
                    other = paired * (source + height * width * out * 2)
                    target = gradients + ((line - top) * row + image * tiles) * 64
                    for tile in range(tiles):
                        place, part = target + tile * 64, out // LANES * own
                        transform_gradients(source, other, zeros, out, 2 * tile, width, place, part, own)
            _accumulate_all(inputs, gradients, products, (top, bottom, above, row), (height, channels, out), lines)


@njit(**KERNEL)
def _accumulate_all(inputs, gradients, products, part, shape, lines):
    """products += those of the lines from top to bottom, whose inputs begin with the line `above`."""
    top, bottom, above, row = part
    height, channels, out = shape
    seen, own = (lines + 2) * row * 64, lines * row * 64
    for k in range(4):
        for block in range(channels // BLOCK):
            for some in range(out // LANES):
                for tap in range(3):
                    begin, end = max(top, 1 - tap), min(bottom, height + 1 - tap)
                    if end <= begin:
                        continue
                    x = inputs + (k * (channels // LANES) + block * COLUMNS) * seen
                    x += (begin + tap - 1 - above) * row * 64
                    g = gradients + (k * (out // LANES) + some) * own + (begin - top) * row * 64
                    target = products + (((k * 3 + tap) * out + some * LANES) * channels + block * BLOCK) * 4
                    pairs, size = (end - begin) * row, channels * 4
                    accumulate(6, g, x, seen, pairs, target, size)
                    accumulate(5, g + 6 * 4, x, seen, pairs, target + 6 * size, size)
                    accumulate(5, g + 11 * 4, x, seen, pairs, target + 11 * size, size)


@njit(**KERNEL)
def gather_gradient(products, gradient):
    """gradient[:] = that of the weights, float32 (out, 3, 3, channels), of `correlate`'s (4, 3, out, channels)."""
    out, channels = products.shape[2:]
    for number in range(out):
        for line in range(3):
            p, g = products[:, line, number], gradient[number, line]
            for c in range(channels):
                total, difference = HALF * (p[1, c] + p[2, c]), HALF * (p[1, c] - p[2, c])
                g[0, c] = p[0, c] + total
                g[1, c] = difference
                g[2, c] = p[3, c] + total
