"""Antialiased crop and resize in float32: the resampling of Pillow and torch's `antialias=True`.

Output pixel i of an axis is a weighted mean of source pixels around `start + (i + 0.5) scale`, the filter
stretched by max(1, scale), its weights normalised over the source pixels in [low, high). A random crop
has integer start and ends at its own border (torchvision crops first); evaluation resizes the whole image
and keeps the centre, so `start` is fractional there and taps may reach outside the kept box.

Rows first: each output row of a block is a weighted sum of source rows, contiguous in memory. The block is
then transposed, so that the columns' pass is again a weighted sum of contiguous lines. The result is
planar and transposed, (C, x, y): the photometric chain does not mind, `store` turns it back.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from barlowctl.data.views.vector import LANES, SLACK, TILE, sum_lines, turn
from barlowctl.kernel_cache import njit

BLOCK = 192  # values of a column that are resampled together, rows times channels, of up to three channels
ROWS_OF_MANY = 64  # the rows of three channels or more: what `sum_lines` sums at once
ZERO, TOP = np.float32(0), np.float32(255)
LEAST, MOST = np.float32(-np.inf), np.float32(np.inf)
FAST = {"contract", "nsz"}  # fused multiply-add; no reordering: the same pixels everywhere


class Axis(NamedTuple):
    """How one axis is resampled, in source pixels."""

    start: float
    scale: float  # source pixels per output pixel
    low: int
    high: int


@njit(cache=True, nogil=True)
def crop_axis(start, length, size):
    """The axis of a crop of `length` pixels resized to `size`."""
    return Axis(np.float64(start), length / size, np.int64(start), np.int64(start + length))


@njit(cache=True, nogil=True)
def window_axis(start, length, size, begin):
    """The axis of that crop's pixels from `begin` on: of a window that was cut out after resizing."""
    scale = length / size
    return Axis(start + begin * scale, scale, np.int64(start), np.int64(start + length))


@njit(cache=True, nogil=True)
def center_axis(length, shorter, resize, crop):
    """The axis of "shorter side to `resize`, then centre crop" as one resampling.

    Rounding as torchvision: the longer side is int(resize * length / shorter), the crop's offset
    int(round((resized - crop) / 2)).
    """
    resized = np.int64(resize * length / shorter) if length != shorter else np.int64(resize)
    scale = length / resized
    offset = np.int64(np.rint((resized - crop) / 2.0))
    return Axis(offset * scale, scale, np.int64(0), np.int64(length))


@njit(cache=True, nogil=True)
def filter_value(x, bicubic):
    """Keys' cubic with a = -0.5 (support 2), or the triangle (support 1)."""
    x = abs(x)
    if not bicubic:
        return max(0.0, 1.0 - x)
    if x < 1.0:
        return (1.5 * x - 2.5) * x * x + 1.0
    if x < 2.0:
        return ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0
    return 0.0


@njit(cache=True, nogil=True)
def max_taps(scale, bicubic):
    """An upper bound on the taps of an output pixel."""
    return np.int64(2 * math.ceil((2.0 if bicubic else 1.0) * max(1.0, scale)) + 1)


class Taps(NamedTuple):
    """Which source pixels make an output pixel, and with what weights.

    first, number: int64 (size,), the first source pixel and how many. weights: float32 (size, taps), each row's first
    `number` sum to 1.
    """

    first: np.ndarray
    number: np.ndarray
    weights: np.ndarray


@njit(cache=True, nogil=True)
def axis_taps(axis, size, bicubic, flip):
    """The taps of every output pixel of an axis. With `flip`, output pixel i is size - 1 - i."""
    stretch = max(1.0, axis.scale)
    support = (2.0 if bicubic else 1.0) * stretch
    narrow = 1.0 / stretch
    first = np.empty(size, np.int64)
    number = np.empty(size, np.int64)
    weights = np.empty((size, max_taps(axis.scale, bicubic)), np.float32)
    for i in range(size):
        center = axis.start + (i + 0.5) * axis.scale
        low = max(axis.low, np.int64(math.floor(center - support + 0.5)))
        high = min(axis.high, np.int64(math.floor(center + support + 0.5)))
        row = size - 1 - i if flip else i
        first[row], number[row] = low, high - low
        total = 0.0
        for k in range(high - low):
            value = filter_value((low + k + 0.5 - center) * narrow, bicubic)
            weights[row, k] = value
            total += value
        scale = 1.0 / total
        for k in range(high - low):
            weights[row, k] *= scale
    return Taps(first, number, weights)


@njit(cache=True, nogil=True)
def whole_vectors(length):
    """`length` rounded up to whole vectors."""
    return (np.int64(length) + LANES - 1) // LANES * LANES


@njit(cache=True, nogil=True)
def block_rows(size, channels):
    """How many output rows are resampled together: a multiple of `vector.TILE`."""
    most = np.int64(BLOCK) // channels if channels < 3 else np.int64(ROWS_OF_MANY)
    return min(most, (np.int64(size) + TILE - 1) // TILE * TILE)


@njit(nogil=True)
def resample(source, offset, stride, channels, rows, columns, scratch, planes):
    """Crop and resize one interleaved uint8 image, or one plane, into planes.

    Args:
        source: uint8 (bytes,), the image begins at `offset`, its rows are `stride` bytes apart; `vector.SLACK` bytes
            after its last pixel are read too.
        rows, columns: `Taps` of the vertical and the horizontal axis.
        scratch: float32 (>= `scratch_length`,).
        planes: float32 (C, S, S), written: [c, x, y], clamped to [0, 255].
    """
    size = planes.shape[1]
    flat = planes.reshape(planes.size)
    first, number = columns.first, columns.number
    row_taps, taps = rows.weights.shape[1], columns.weights.shape[1]
    row_weights, weights = rows.weights.reshape(rows.weights.size), columns.weights.reshape(columns.weights.size)
    left = min(first[0], first[size - 1])
    right = max(first[0] + number[0], first[size - 1] + number[size - 1])
    length = (right - left) * channels
    block = block_rows(size, channels)
    wide = whole_vectors(length)
    step = channels * block
    lines = scratch[: block * wide]
    turned = scratch[block * wide : 2 * block * wide + SLACK]
    for top in range(0, size, block):
        height = min(block, size - top)
        for r in range(height):
            y = top + r
            begin = offset + rows.first[y] * stride + left * channels
            tap, many = y * row_taps, rows.number[y]
            sum_lines(source, begin, stride, row_weights, tap, many, lines, r * wide, length, LEAST, MOST)
        turn(lines, 0, wide, height, length, turned, 0, block)
        for x in range(size):
            begin = (first[x] - left) * step
            for c in range(channels):
                at = (c * size + x) * size + top
                sum_lines(turned, begin + c * block, step, weights, x * taps, number[x], flat, at, height, ZERO, TOP)


@njit(cache=True, nogil=True)
def scratch_length(width, channels):
    """How many float32 `resample` needs for images of this width."""
    return 2 * max(BLOCK, ROWS_OF_MANY * channels) * (np.int64(width) + LANES) + SLACK


@njit(cache=True, nogil=True)
def transpose(planes):
    """Change the two axes of planes (C, S, S), in place."""
    size = planes.shape[1]
    for c in range(planes.shape[0]):
        plane = planes[c]
        for top in range(0, size, TILE):
            for left in range(0, top + 1, TILE):
                for y in range(top, min(top + TILE, size)):
                    for x in range(left, min(left + TILE, y)):
                        plane[y, x], plane[x, y] = plane[x, y], plane[y, x]


@njit(nogil=True)
def store(planes, packed, out):
    """Planes float32 (C, x, y) in [0, 255] -> out uint8 (y, x, C), rounded.

    Three channels go through one uint32 per pixel, and of more up to four at a time: the transposition moves as many
    fewer elements.

    Args:
        packed: uint32 (>= `store_scratch`,).
    """
    size = np.uint64(planes.shape[1])
    side = whole_vectors(planes.shape[1])
    n = size * size
    flat, target = planes.reshape(planes.size), out.reshape(out.size)
    half = np.float32(0.5)
    if planes.shape[0] != 3 and planes.shape[0] != 1:
        store_bands(planes, packed, out)
        return
    if planes.shape[0] == 3:
        for i in range(n):
            r = np.uint32(np.int32(flat[i] + half))
            g = np.uint32(np.int32(flat[n + i] + half))
            b = np.uint32(np.int32(flat[n + n + i] + half))
            packed[i] = np.uint32(r | (g << np.uint32(8)) | (b << np.uint32(16)))
    else:
        for i in range(n):
            packed[i] = np.uint32(np.int32(flat[i] + half))
    begin = side * side
    turn(packed, 0, size, size, size, packed, begin, side)
    three = np.uint64(3)
    for y in range(size):
        line, at = np.uint64(begin) + y * np.uint64(side), y * size
        if planes.shape[0] == 3:
            at *= three
            for x in range(size):
                v = packed[line + x]
                target[at + three * x] = np.uint8(v & np.uint32(255))
                target[at + three * x + np.uint64(1)] = np.uint8((v >> np.uint32(8)) & np.uint32(255))
                target[at + three * x + np.uint64(2)] = np.uint8((v >> np.uint32(16)) & np.uint32(255))
        else:
            for x in range(size):
                target[at + x] = np.uint8(packed[line + x])


@njit(nogil=True)
def store_bands(planes, packed, out):
    """`store` of any number of channels, up to four at a time."""
    channels, size = np.uint64(planes.shape[0]), np.uint64(planes.shape[1])
    side = np.uint64(whole_vectors(planes.shape[1]))
    flat, target = planes.reshape(planes.size), out.reshape(out.size)
    n, half, eight = size * size, np.float32(0.5), np.uint32(8)
    begin, first = side * side, np.uint64(0)
    while first < channels:
        many = min(channels - first, np.uint64(4))
        for c in range(many):
            plane, shift = flat[(first + c) * n : (first + c + np.uint64(1)) * n], np.uint32(c) * eight
            for i in range(n):
                value = np.uint32(np.int32(plane[i] + half)) << shift
                packed[i] = value if c == 0 else packed[i] | value
        turn(packed, 0, size, size, size, packed, begin, side)
        for y in range(size):
            line, at = begin + y * side, y * size * channels + first
            for c in range(many):
                shift = np.uint32(c) * eight
                for x in range(size):
                    target[at + c + x * channels] = np.uint8((packed[line + x] >> shift) & np.uint32(255))
        first += many


def store_scratch(size: int) -> int:
    """How many uint32 `store` needs for a view of this side."""
    side = -(-size // LANES) * LANES
    return 2 * side * side
