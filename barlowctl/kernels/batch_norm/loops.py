"""The loops of batch norm, with the ReLU after it: two passes over memory each way, float32 inside.

Arrays are addresses of bfloat16 or float32 values (`like`: see `number_formats`). Rows of few channels are taken
several at a time, so that the inner loop is long. Sums of a block of rows are float32, those of the blocks float64.
What is not a number stays so. A gradient is read before it is known whether it counts: read only where it does, it
would be loaded by a mask, which processors with AVX2 take half as long again for.
"""

from __future__ import annotations

import numpy as np
from numba import carray

from barlowctl.kernel_cache import njit
from barlowctl.kernels.compiling import KERNEL
from barlowctl.kernels.number_formats import is_zero, itemsize, narrow, pointer, wide
from barlowctl.kernels.thread_tiles import octets

LONG = 256  # numbers of an inner loop, where rows are short
BLOCK = 256  # of those loops, whose sums are float32
SAMPLE = 32  # of a batch's rows, of which a value near its mean is taken
ZERO = np.float32(0.0)


@njit(**KERNEL)
def rows_at_once(rows, width):
    """How many rows make one inner loop."""
    at_once = 1
    while at_once * width < LONG and rows % (2 * at_once) == 0:
        at_once *= 2
    return at_once


@njit(**KERNEL)
def estimate_mean(source, like, rows, width, centre):
    """Writes a value near the mean of each column, so that squares of what is left do not hide the variance."""
    count = min(SAMPLE, rows)
    step = rows // count
    sums = np.zeros(width, np.float32)
    for row in range(count):
        x = carray(pointer(source + itemsize(like) * row * step * width, like), (width,))
        for c in range(width):
            sums[c] += wide(x[c])
    for first in range(0, len(centre), width):
        for c in range(width):
            centre[first + c] = sums[c] / np.float32(count)


@njit(**KERNEL)
def add_block(source, like, count, length, columns, centre):
    """float32 sums of `source - centre` and of its square over `count` inner loops, of the first `columns` of each.

    They begin `length` values after one another. Sums have memory of their own: LLVM sees that it is nobody else's.
    """
    own, own_squares = np.zeros(columns, np.float32), np.zeros(columns, np.float32)
    for i in range(count):
        x = carray(pointer(source + itemsize(like) * i * length, like), (columns,))
        for j in range(columns):
            value = wide(x[j]) - centre[j]
            own[j] += value
            own_squares[j] += value * value
    return own, own_squares


@njit(**KERNEL)
def settle(total, squares, rows, eps, centre, mean, inverse, running, momentum):
    """Statistics of a batch from the sums of its rows.

    Args: as of `threads.normalize`; mean, inverse: of the part. centre: what was subtracted from each value.
    """
    running_mean, running_variance = running
    for c in range(len(total)):
        distance = total[c] / rows
        variance = squares[c] / rows - distance * distance
        variance = 0.0 if variance < 0.0 else variance
        mean[c] = distance + centre[c]
        inverse[c] = 1.0 / np.sqrt(variance + eps)
        running_mean[c] += momentum * (mean[c] - running_mean[c])
        running_variance[c] += momentum * (variance * rows / (rows - 1) - running_variance[c])


@njit(**KERNEL)
def settle_factors(weight, bias, mean, inverse, scale, shift):
    """What the values of an inner loop are multiplied by, and what is added then."""
    width = len(weight)
    for first in range(0, len(scale), width):
        for c in range(width):
            scale[first + c] = weight[c] * inverse[c]
            shift[first + c] = bias[c] - mean[c] * scale[first + c]


@njit(**KERNEL)
def write_values(source, target, like, loops, length, scale, shift, rectified):
    """target = source scale + shift, without what is negative where `rectified`."""
    x = carray(pointer(source, like), (loops * length,))
    y = carray(pointer(target, like), (loops * length,))
    if rectified:
        for i in range(loops):
            at = i * length
            for j in range(length):
                value = wide(x[at + j]) * scale[j] + shift[j]
                y[at + j] = narrow(ZERO if value < ZERO else value, like)
    else:
        for i in range(loops):
            at = i * length
            for j in range(length):
                y[at + j] = narrow(wide(x[at + j]) * scale[j] + shift[j], like)


@njit(**KERNEL)
def write_sum(source, other, target, like, loops, length, scale, shift):
    """target = source scale + shift + other, without what is negative."""
    x, s = carray(pointer(source, like), (loops * length,)), carray(pointer(other, like), (loops * length,))
    y = carray(pointer(target, like), (loops * length,))
    for i in range(loops):
        at = i * length
        for j in range(length):
            value = wide(x[at + j]) * scale[j] + shift[j] + wide(s[at + j])
            y[at + j] = narrow(ZERO if value < ZERO else value, like)


@njit(**KERNEL)
def write_marked_sum(source, other, target, marks, like, loops, length, scale, shift):
    """`write_sum`, and marks: a bit for each value, from the lowest of a byte on, which says that it is not 0."""
    write_sum(source, other, target, like, loops, length, scale, shift)
    y, bits = carray(pointer(target, like), (loops * length,)), carray(octets(marks), (loops * length // 8,))
    for place in range(loops * length // 8):
        byte = 0
        for bit in range(8):
            byte |= (0 if is_zero(y[8 * place + bit]) else 1) << bit
        bits[place] = byte


@njit(**KERNEL)
def add_product_block(gradient, source, like, count, length, columns, centre):
    """float32 sums of a gradient, and of its product with `source - centre`: see `add_block`."""
    own, own_product = np.zeros(columns, np.float32), np.zeros(columns, np.float32)
    for i in range(count):
        at = itemsize(like) * i * length
        g, x = carray(pointer(gradient + at, like), (columns,)), carray(pointer(source + at, like), (columns,))
        for j in range(columns):
            value = wide(g[j])
            own[j] += value
            own_product[j] += value * (wide(x[j]) - centre[j])
    return own, own_product


@njit(**KERNEL)
def add_rectified_block(gradient, source, like, count, length, columns, centre, scale, shift):
    """`add_product_block` of a gradient that `write_values` rectified: nothing where its result is 0."""
    own, own_product = np.zeros(columns, np.float32), np.zeros(columns, np.float32)
    for i in range(count):
        at = itemsize(like) * i * length
        g, x = carray(pointer(gradient + at, like), (columns,)), carray(pointer(source + at, like), (columns,))
        for j in range(columns):
            number, whole = wide(x[j]), wide(g[j])
            value = ZERO if number * scale[j] + shift[j] <= ZERO else whole
            own[j] += value
            own_product[j] += value * (number - centre[j])
    return own, own_product


@njit(**KERNEL)
def add_masked_block(gradient, source, result, masked, like, count, length, columns, centre):
    """`add_product_block` of masked = the gradient, and 0 where a result is 0."""
    own, own_product = np.zeros(columns, np.float32), np.zeros(columns, np.float32)
    for i in range(count):
        at = itemsize(like) * i * length
        g, x = carray(pointer(gradient + at, like), (columns,)), carray(pointer(source + at, like), (columns,))
        y, m = carray(pointer(result + at, like), (columns,)), carray(pointer(masked + at, like), (columns,))
        for j in range(columns):
            whole = g[j]
            number = like if is_zero(y[j]) else whole
            m[j] = number
            own[j] += wide(number)
            own_product[j] += wide(number) * (wide(x[j]) - centre[j])
    return own, own_product


@njit(**KERNEL)
def add_marked_block(gradient, source, marks, masked, like, count, length, columns, centre):
    """`add_masked_block` by the marks of results (see `write_marked_sum`), of columns that begin with a byte."""
    own, own_product = np.zeros(columns, np.float32), np.zeros(columns, np.float32)
    for i in range(count):
        at = itemsize(like) * i * length
        g, x = carray(pointer(gradient + at, like), (columns,)), carray(pointer(source + at, like), (columns,))
        bits, m = (
            carray(octets(marks + i * length // 8), (-(-columns // 8),)),
            carray(pointer(masked + at, like), (columns,)),
        )
        for j in range(columns):
            number = g[j] if (bits[j // 8] >> (j % 8)) & 1 else like
            m[j] = number
            own[j] += wide(number)
            own_product[j] += wide(number) * (wide(x[j]) - centre[j])
    return own, own_product


@njit(**KERNEL)
def settle_gradient(total, product, rows, mean, inverse, of_weight, of_bias, scale, slope, offset):
    """The gradient of weight and bias from a batch's sums; then what `write_gradient` takes of each value."""
    width = len(total)
    for c in range(width):
        of_weight[c] += product[c] * inverse[c]
        of_bias[c] += total[c]
    for first in range(0, len(scale), width):
        for c in range(width):
            slope[first + c] = -scale[c] * product[c] * inverse[c] * inverse[c] / rows
            offset[first + c] = -scale[c] * total[c] / rows - slope[first + c] * mean[c]


@njit(**KERNEL)
def write_gradient(gradient, source, target, like, loops, length, scale, shift, slope, offset, rectified):
    """target = gradient scale + source slope + offset; see `add_rectified_block` for `rectified`."""
    size = loops * length
    g, x = carray(pointer(gradient, like), (size,)), carray(pointer(source, like), (size,))
    out = carray(pointer(target, like), (size,))
    if rectified:
        for i in range(loops):
            at = i * length
            for j in range(length):
                number = wide(x[at + j])
                value = ZERO if number * scale[j] + shift[j] <= ZERO else wide(g[at + j])
                out[at + j] = narrow(value * scale[j] + number * slope[j] + offset[j], like)
    else:
        for i in range(loops):
            at = i * length
            for j in range(length):
                out[at + j] = narrow(wide(g[at + j]) * scale[j] + wide(x[at + j]) * slope[j] + offset[j], like)
