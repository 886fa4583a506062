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
from numba import njit

BLOCK = 32  # output rows resampled together; their transposed lines stay in cache
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


@njit(cache=True, nogil=True)
def axis_weights(axis, size, bicubic, flip):
    """The taps of every output pixel.

    Returns:
        first (size,) int64: source pixel of the first tap; count (size,) int64; weights (size, taps)
        float32, each row's first `count` sum to 1. With `flip`, output pixel i is size - 1 - i.
    """
    stretch = max(1.0, axis.scale)
    support = (2.0 if bicubic else 1.0) * stretch
    first = np.empty(size, np.int64)
    count = np.empty(size, np.int64)
    weights = np.zeros((size, max_taps(axis.scale, bicubic)), np.float32)
    for i in range(size):
        center = axis.start + (i + 0.5) * axis.scale
        low = max(axis.low, np.int64(math.floor(center - support + 0.5)))
        high = min(axis.high, np.int64(math.floor(center + support + 0.5)))
        total = 0.0
        for x in range(low, high):
            total += filter_value((x + 0.5 - center) / stretch, bicubic)
        row = size - 1 - i if flip else i
        first[row], count[row] = low, high - low
        for x in range(low, high):
            weights[row, x - low] = filter_value((x + 0.5 - center) / stretch, bicubic) / total
    return first, count, weights


@njit(cache=True, nogil=True, fastmath=FAST)
def sum_lines(source, begin, stride, weights, tap, count, out, at, length):
    """out[at : at + length] = sum_k weights[tap + k] source[begin + k stride : ... + length], in float32.

    Flat arrays and unsigned positions: numba slices count references atomically and signed indices may
    wrap around, and either would cost more than the sum itself.
    """
    n, at, begin, stride = np.uint64(length), np.uint64(at), np.uint64(begin), np.uint64(stride)
    k = 0
    if count >= 4:
        b = begin + stride
        c = b + stride
        d = c + stride
        wa, wb, wc, wd = weights[tap], weights[tap + 1], weights[tap + 2], weights[tap + 3]
        for x in range(n):
            out[at + x] = (
                wa * np.float32(source[begin + x])
                + wb * np.float32(source[b + x])
                + wc * np.float32(source[c + x])
                + wd * np.float32(source[d + x])
            )
        k = 4
    else:
        wa = weights[tap]
        for x in range(n):
            out[at + x] = wa * np.float32(source[begin + x])
        k = 1
    while k + 4 <= count:
        a = begin + np.uint64(k) * stride
        b = a + stride
        c = b + stride
        d = c + stride
        wa, wb, wc, wd = weights[tap + k], weights[tap + k + 1], weights[tap + k + 2], weights[tap + k + 3]
        for x in range(n):
            out[at + x] += (
                wa * np.float32(source[a + x])
                + wb * np.float32(source[b + x])
                + wc * np.float32(source[c + x])
                + wd * np.float32(source[d + x])
            )
        k += 4
    while k < count:
        a = begin + np.uint64(k) * stride
        wa = weights[tap + k]
        for x in range(n):
            out[at + x] += wa * np.float32(source[a + x])
        k += 1


@njit(cache=True, nogil=True)
def turn(lines, length, turned):
    """lines float32 (BLOCK, length) -> turned (length, BLOCK), both flat."""
    block, length = np.uint64(BLOCK), np.uint64(length)
    for x in range(length):
        for r in range(block):
            turned[x * block + r] = lines[r * length + x]


@njit(cache=True, nogil=True, fastmath=FAST)
def keep_clamped(column, begin, planes, at, count):
    """planes[at : at + count] = column[begin : begin + count] clamped to [0, 255]; flat float32."""
    begin, at = np.uint64(begin), np.uint64(at)
    for i in range(np.uint64(count)):
        planes[at + i] = min(max(column[begin + i], np.float32(0)), np.float32(255))


@njit(cache=True, nogil=True)
def resample(source, offset, stride, channels, vertical, horizontal, bicubic, flip, scratch, planes):
    """Crop and resize one interleaved uint8 image into planes.

    Args:
        source: uint8 (bytes,), the image begins at `offset`, its rows are `stride` bytes apart.
        vertical, horizontal: the axes; flip: mirror left and right.
        scratch: float32 (>= `scratch_length`,).
        planes: float32 (C, S, S), written: [c, x, y], clamped to [0, 255].
    """
    size = planes.shape[1]
    flat = planes.reshape(planes.size)
    row_first, row_count, row_weights = axis_weights(vertical, size, bicubic, False)
    first, count, weights = axis_weights(horizontal, size, bicubic, flip)
    row_taps, taps = row_weights.shape[1], weights.shape[1]
    row_weights, weights = row_weights.reshape(row_weights.size), weights.reshape(weights.size)
    left = min(first[0], first[size - 1])
    right = max(first[0] + count[0], first[size - 1] + count[size - 1])
    length = (right - left) * channels
    lines = scratch[: BLOCK * length]
    turned = scratch[BLOCK * length : 2 * BLOCK * length]
    column = scratch[2 * BLOCK * length : 2 * BLOCK * length + BLOCK * channels]
    for block in range(0, size, BLOCK):
        rows = min(BLOCK, size - block)
        for r in range(rows):
            y = block + r
            begin = offset + row_first[y] * stride + left * channels
            sum_lines(source, begin, stride, row_weights, y * row_taps, row_count[y], lines, r * length, length)
        turn(lines, length, turned)
        step = channels * BLOCK
        for x in range(size):
            sum_lines(turned, (first[x] - left) * step, step, weights, x * taps, count[x], column, 0, step)
            for c in range(channels):
                keep_clamped(column, c * BLOCK, flat, (c * size + x) * size + block, rows)


@njit(cache=True, nogil=True)
def scratch_length(width, channels):
    """How many float32 `resample` needs for images of this width."""
    return BLOCK * channels * (2 * width + 1)


@njit(cache=True, nogil=True)
def store(planes, packed, out):
    """Planes float32 (C, x, y) in [0, 255] -> out uint8 (y, x, C), rounded.

    Three channels go through one uint32 per pixel: the transposition moves a third as many elements.

    Args:
        packed: uint32 (>= 2 S S,), scratch.
    """
    size = np.uint64(planes.shape[1])
    n = size * size
    flat, target = planes.reshape(planes.size), out.reshape(out.size)
    half = np.float32(0.5)
    if planes.shape[0] == 3:
        for i in range(n):
            r = np.uint32(np.int32(flat[i] + half))
            g = np.uint32(np.int32(flat[n + i] + half))
            b = np.uint32(np.int32(flat[n + n + i] + half))
            packed[i] = np.uint32(r | (g << np.uint32(8)) | (b << np.uint32(16)))
    else:
        for i in range(n):
            packed[i] = np.uint32(np.int32(flat[i] + half))
    turn_square(packed, size)
    three = np.uint64(3)
    if planes.shape[0] == 3:
        for i in range(n):
            v = packed[n + i]
            target[three * i] = np.uint8(v & np.uint32(255))
            target[three * i + np.uint64(1)] = np.uint8((v >> np.uint32(8)) & np.uint32(255))
            target[three * i + np.uint64(2)] = np.uint8((v >> np.uint32(16)) & np.uint32(255))
    else:
        for i in range(n):
            target[i] = np.uint8(packed[n + i])


@njit(cache=True, nogil=True)
def turn_square(packed, size):
    """packed[n:] = packed[:n] transposed, n = size size; in strips that stay in cache."""
    n, strip = size * size, np.uint64(16)
    for block in range(np.uint64(0), size, strip):
        stop = min(size, block + strip)
        for x in range(size):
            for y in range(block, stop):
                packed[n + y * size + x] = packed[x * size + y]
