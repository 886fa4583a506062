"""The loops of batch norm in bfloat16, with the ReLU after it: two passes over memory each way, float32 inside.

Arrays are addresses of bfloat16 values, `(parts, rows, width)`; each part has statistics of its own. Rows of few
channels are taken several at a time, so that the inner loop is long. Sums of a block of rows are float32, those of the
blocks float64. What is not a number stays so.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import carray, types
from numba.extending import intrinsic

from barlowctl.kernel_cache import njit

LONG = 256  # numbers of an inner loop, where rows are short
BLOCK = 256  # of those loops, whose sums are float32
MAGNITUDE = np.uint16(0x7FFF)
ZERO = np.float32(0.0)
FLAGS = {"contract", "nsz", "reassoc"}  # of floating point; not those by which a value that is no number may vanish
KERNEL: dict[str, Any] = {"cache": True, "nogil": True, "error_model": "numpy", "fastmath": FLAGS}

_HALF, _WORD, _FLOAT = ir.IntType(16), ir.IntType(32), ir.FloatType()


@intrinsic
def wide(typing_context, value):
    """The float32 of a bfloat16's bits, uint16."""

    def code(context, builder, signature, arguments):
        bits = builder.shl(builder.zext(arguments[0], _WORD), _WORD(16))
        return builder.bitcast(bits, _FLOAT)

    return types.float32(types.uint16), code


@intrinsic
def narrow(typing_context, value):
    """The bits of the bfloat16 that is nearest to a float32, of two the even one."""

    def code(context, builder, signature, arguments):
        bits = builder.bitcast(arguments[0], _WORD)
        odd = builder.and_(builder.lshr(bits, _WORD(16)), _WORD(1))
        rounded = builder.add(builder.add(bits, _WORD(0x7FFF)), odd)
        return builder.trunc(builder.lshr(rounded, _WORD(16)), _HALF)

    return types.uint16(types.float32), code


@intrinsic
def pointer(typing_context, address):
    """To bfloat16's bits at an address."""

    def code(context, builder, signature, arguments):
        return builder.inttoptr(arguments[0], _HALF.as_pointer())

    return types.CPointer(types.uint16)(types.int64), code


@njit(**KERNEL)
def rows_at_once(rows, width):
    """How many rows make one inner loop."""
    at_once = 1
    while at_once * width < LONG and rows % (2 * at_once) == 0:
        at_once *= 2
    return at_once


@njit(**KERNEL)
def add_block(source, count, length, columns, shift):
    """float32 sums of `source - shift` and of its square over `count` inner loops, of the first `columns` of each.

    They begin `length` values after one another. Sums have memory of their own: LLVM sees that it is nobody else's.
    """
    own, own_squares = np.zeros(columns, np.float32), np.zeros(columns, np.float32)
    for i in range(count):
        x = carray(pointer(source + 2 * i * length), (columns,))
        for j in range(columns):
            value = wide(x[j]) - shift[j]
            own[j] += value
            own_squares[j] += value * value
    return own, own_squares


@njit(**KERNEL)
def add_values(source, loops, length, shift, total, squares):
    """Adds up `source - shift` and its square: float32 sums of a block of inner loops, float64 ones of all."""
    for first in range(0, loops, BLOCK):
        own, own_squares = add_block(source + 2 * first * length, min(BLOCK, loops - first), length, length, shift)
        for j in range(length):
            total[j % len(total)] += own[j]
            squares[j % len(total)] += own_squares[j]


@njit(**KERNEL)
def write_values(source, target, loops, length, scale, shift, rectified):
    """target = source scale + shift, without what is negative where `rectified`."""
    x = carray(pointer(source), (loops * length,))
    y = carray(pointer(target), (loops * length,))
    if rectified:
        for i in range(loops):
            at = i * length
            for j in range(length):
                value = wide(x[at + j]) * scale[j] + shift[j]
                y[at + j] = narrow(ZERO if value < ZERO else value)
    else:
        for i in range(loops):
            at = i * length
            for j in range(length):
                y[at + j] = narrow(wide(x[at + j]) * scale[j] + shift[j])


@njit(**KERNEL)
def settle(total, squares, rows, weight, bias, eps, mean, inverse, running, momentum, scale, shift):
    """Statistics of a part from the sums of its rows; then what its values are multiplied by, and what is added.

    Args: as of `normalize`; mean, inverse: of the part.
        shift: what was subtracted from each value of an inner loop; written like `scale`, both of that length.
    """
    running_mean, running_variance = running
    width = len(total)
    for c in range(width):
        centre = total[c] / rows
        variance = squares[c] / rows - centre * centre
        variance = 0.0 if variance < 0.0 else variance
        mean[c] = centre + shift[c]
        inverse[c] = 1.0 / np.sqrt(variance + eps)
        running_mean[c] += momentum * (mean[c] - running_mean[c])
        running_variance[c] += momentum * (variance * rows / (rows - 1) - running_variance[c])
    for j in range(len(scale)):
        c = j % width
        scale[j] = weight[c] * inverse[c]
        shift[j] = bias[c] - mean[c] * scale[j]


@njit(**KERNEL)
def normalize(source, other, target, shape, weight, bias, eps, rectified, mean, inverse, running, momentum):
    """target = (source - mean) inverse weight + bias, without what is negative where `rectified`.

    With an `other` that is not 0 its values are added, and what is negative then is left out.

    Args:
        shape: parts, rows, width. weight, bias: float32 (width,).
        mean, inverse: float32 (parts, width), written: of a part's rows, and 1 / sqrt(variance + eps).
        running: mean and unbiased variance, float32 (width,), moved by `momentum`, part after part.
    """
    parts, rows, width = shape
    at_once = rows_at_once(rows, width)
    length, loops = at_once * width, rows // at_once
    shift, scale = np.empty(length, np.float32), np.empty(length, np.float32)
    for part in range(parts):
        begin = 2 * part * rows * width
        x = carray(pointer(source + begin), (width,))
        for j in range(length):
            shift[j] = wide(x[j % width])  # near the mean, so that squares do not hide the variance
        total, squares = np.zeros(width), np.zeros(width)
        add_values(source + begin, loops, length, shift, total, squares)
        settle(total, squares, rows, weight, bias, eps, mean[part], inverse[part], running, momentum, scale, shift)
        if other != 0:
            write_sum(source + begin, other + begin, target + begin, loops, length, scale, shift)
        else:
            write_values(source + begin, target + begin, loops, length, scale, shift, rectified)


@njit(**KERNEL)
def add_product_block(gradient, source, result, count, length, columns, centre, rectified):
    """What `add_products` adds up, over `count` inner loops: see `add_block`."""
    own, own_product = np.zeros(columns, np.float32), np.zeros(columns, np.float32)
    for i in range(count):
        at = 2 * i * length
        g, x = carray(pointer(gradient + at), (columns,)), carray(pointer(source + at), (columns,))
        y = carray(pointer(result + at), (columns,))
        if rectified:
            for j in range(columns):
                value = wide(g[j]) if (y[j] & MAGNITUDE) != 0 else ZERO
                own[j] += value
                own_product[j] += value * (wide(x[j]) - centre[j])
        else:
            for j in range(columns):
                value = wide(g[j])
                own[j] += value
                own_product[j] += value * (wide(x[j]) - centre[j])
    return own, own_product


@njit(**KERNEL)
def add_products(gradient, source, result, loops, length, centre, total, product, rectified):
    """Adds up the gradient, and its product with `source - centre`; nothing where a rectified result is 0."""
    for first in range(0, loops, BLOCK):
        begin, count = 2 * first * length, min(BLOCK, loops - first)
        own, own_product = add_product_block(
            gradient + begin, source + begin, result + begin, count, length, length, centre, rectified
        )
        for j in range(length):
            total[j % len(total)] += own[j]
            product[j % len(total)] += own_product[j]


@njit(**KERNEL)
def write_gradient(gradient, source, result, target, loops, length, scale, slope, shift, rectified):
    """target = gradient scale + source slope + shift; without the gradient where a rectified result is 0."""
    size = loops * length
    g, x = carray(pointer(gradient), (size,)), carray(pointer(source), (size,))
    y, out = carray(pointer(result), (size,)), carray(pointer(target), (size,))
    if rectified:
        for i in range(loops):
            at = i * length
            for j in range(length):
                value = wide(g[at + j]) if (y[at + j] & MAGNITUDE) != 0 else ZERO
                out[at + j] = narrow(value * scale[j] + wide(x[at + j]) * slope[j] + shift[j])
    else:
        for i in range(loops):
            at = i * length
            for j in range(length):
                out[at + j] = narrow(wide(g[at + j]) * scale[j] + wide(x[at + j]) * slope[j] + shift[j])


@njit(**KERNEL)
def settle_gradient(total, product, rows, weight, centre, inverse, of_weight, of_bias, scale, slope, shift):
    """The gradient of weight and bias from a part's sums; then what `write_gradient` takes of each value."""
    width = len(total)
    for c in range(width):
        of_bias[c] += total[c]
        of_weight[c] += product[c] * inverse[c]
    for j in range(len(scale)):
        c = j % width
        scale[j] = weight[c] * inverse[c]
        slope[j] = -scale[j] * product[c] * inverse[c] * inverse[c] / rows
        shift[j] = -scale[j] * total[c] / rows - slope[j] * centre[j]


@njit(**KERNEL)
def differentiate(gradient, source, result, target, shape, weight, mean, inverse, rectified, of_weight, of_bias):
    """target = the gradient of `source`, from that of `normalize`'s result; of weight and bias: added to.

    Args:
        result: what `normalize` wrote, looked at where `rectified`. of_weight, of_bias: float32 (width,).
    """
    parts, rows, width = shape
    at_once = rows_at_once(rows, width)
    length, loops = at_once * width, rows // at_once
    centre, scale = np.empty(length, np.float32), np.empty(length, np.float32)
    slope, shift = np.empty(length, np.float32), np.empty(length, np.float32)
    for part in range(parts):
        begin = 2 * part * rows * width
        g, x, y = gradient + begin, source + begin, result + begin
        for j in range(length):
            centre[j] = mean[part, j % width]
        total, product = np.zeros(width), np.zeros(width)
        add_products(g, x, y, loops, length, centre, total, product, rectified)
        settle_gradient(total, product, rows, weight, centre, inverse[part], of_weight, of_bias, scale, slope, shift)
        write_gradient(g, x, y, target + begin, loops, length, scale, slope, shift, rectified)


@njit(**KERNEL)
def write_sum(source, other, target, loops, length, scale, shift):
    """target = source scale + shift + other, without what is negative."""
    x, s = carray(pointer(source), (loops * length,)), carray(pointer(other), (loops * length,))
    y = carray(pointer(target), (loops * length,))
    for i in range(loops):
        at = i * length
        for j in range(length):
            value = wide(x[at + j]) * scale[j] + shift[j] + wide(s[at + j])
            y[at + j] = narrow(ZERO if value < ZERO else value)


@njit(**KERNEL)
def keep_where_positive(gradient, result, target, count):
    """target = gradient, and 0 where the result is 0."""
    g, y = carray(pointer(gradient), (count,)), carray(pointer(result), (count,))
    out = carray(pointer(target), (count,))
    for j in range(count):
        out[j] = g[j] if (y[j] & MAGNITUDE) != 0 else np.uint16(0)
