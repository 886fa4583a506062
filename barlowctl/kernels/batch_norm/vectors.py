"""The same loops over maps in bfloat16, in a processor's widest vectors, where it rounds to that format.

LLVM by itself takes half of AVX-512's vectors, and five instructions to round. Here sums stay in registers while rows
are added. What is summed, and in what order, is as there. Columns are taken 16 at a time; those that are left over, and
rows of which some are, are left to the loops there. What was measured is in docs/experiments.md.
"""

from __future__ import annotations

import numpy as np

from barlowctl.kernel_cache import njit
from barlowctl.kernels.batch_norm import loops
from barlowctl.kernels.batch_norm.vector_code import (
    COLUMNS,
    STRIP,
    rows_of_gradient,
    rows_of_marked_sum,
    rows_of_rectified,
    rows_of_rectified_gradient,
    rows_of_sum,
    rows_of_values,
    sum_marked,
    sum_masked,
    sum_products,
    sum_rectified,
    sum_values,
)
from barlowctl.kernels.compiling import KERNEL
from barlowctl.kernels.float_vectors import LANES, ROUNDS

USABLE = ROUNDS and LANES == COLUMNS
"""Whether the processor that is compiled for has such vectors, and rounds to bfloat16."""


def marks(width: int) -> bool:
    """Whether rows of so many columns have a bit for each value of a sum, and so a pass over it less."""
    return USABLE and width % COLUMNS == 0


@njit(**KERNEL)
def strip_of(columns):
    """Vectors that are summed next to each other, of so many columns, 16 or more."""
    vectors = STRIP
    while vectors * COLUMNS > columns:
        vectors //= 2
    return vectors


@njit(**KERNEL)
def put_rest(sums, others, first, rest):
    """The sums of the columns from the `first` on."""
    for column in range(first, len(sums)):
        sums[column] = rest[0][column - first]
        others[column] = rest[1][column - first]


@njit(**KERNEL)
def add_block(source, like, count, length, columns, centre):
    """See `loops`."""
    own, squares, first = np.zeros(columns, np.float32), np.zeros(columns, np.float32), 0
    while columns - first >= COLUMNS:
        vectors, x, place = strip_of(columns - first), source + 2 * first, 4 * first
        mean, sums, others = centre.ctypes.data + place, own.ctypes.data + place, squares.ctypes.data + place
        sum_values(x, x, x, x, count, 2 * length, vectors, mean, 0, 0, sums, others)
        first += vectors * COLUMNS
    if first < columns:
        rest = loops.add_block(source + 2 * first, like, count, length, columns - first, centre[first:])
        put_rest(own, squares, first, rest)
    return own, squares


@njit(**KERNEL)
def add_product_block(gradient, source, like, count, length, columns, centre):
    """See `loops`."""
    own, products, first = np.zeros(columns, np.float32), np.zeros(columns, np.float32), 0
    while columns - first >= COLUMNS:
        vectors, g, x, place = strip_of(columns - first), gradient + 2 * first, source + 2 * first, 4 * first
        mean, sums, others = centre.ctypes.data + place, own.ctypes.data + place, products.ctypes.data + place
        sum_products(g, x, x, x, count, 2 * length, vectors, mean, 0, 0, sums, others)
        first += vectors * COLUMNS
    if first < columns:
        g, x = gradient + 2 * first, source + 2 * first
        rest = loops.add_product_block(g, x, like, count, length, columns - first, centre[first:])
        put_rest(own, products, first, rest)
    return own, products


@njit(**KERNEL)
def add_rectified_block(gradient, source, like, count, length, columns, centre, scale, shift):
    """See `loops`."""
    own, products, first = np.zeros(columns, np.float32), np.zeros(columns, np.float32), 0
    while columns - first >= COLUMNS:
        vectors, g, x, place = strip_of(columns - first), gradient + 2 * first, source + 2 * first, 4 * first
        mean, sums, others = centre.ctypes.data + place, own.ctypes.data + place, products.ctypes.data + place
        factors, addends = scale.ctypes.data + place, shift.ctypes.data + place
        sum_rectified(g, x, x, x, count, 2 * length, vectors, mean, factors, addends, sums, others)
        first += vectors * COLUMNS
    if first < columns:
        g, x, of = gradient + 2 * first, source + 2 * first, columns - first
        rest = loops.add_rectified_block(g, x, like, count, length, of, centre[first:], scale[first:], shift[first:])
        put_rest(own, products, first, rest)
    return own, products


@njit(**KERNEL)
def add_masked_block(gradient, source, result, masked, like, count, length, columns, centre):
    """See `loops`."""
    own, products, first = np.zeros(columns, np.float32), np.zeros(columns, np.float32), 0
    while columns - first >= COLUMNS:
        vectors, g, x, place = strip_of(columns - first), gradient + 2 * first, source + 2 * first, 4 * first
        y, m = result + 2 * first, masked + 2 * first
        mean, sums, others = centre.ctypes.data + place, own.ctypes.data + place, products.ctypes.data + place
        sum_masked(g, x, y, m, count, 2 * length, vectors, mean, 0, 0, sums, others)
        first += vectors * COLUMNS
    if first < columns:
        g, x, y, m = gradient + 2 * first, source + 2 * first, result + 2 * first, masked + 2 * first
        rest = loops.add_masked_block(g, x, y, m, like, count, length, columns - first, centre[first:])
        put_rest(own, products, first, rest)
    return own, products


@njit(**KERNEL)
def add_marked_block(gradient, source, marks, masked, like, count, length, columns, centre):
    """See `loops`. Columns are a multiple of 16."""
    own, products, first = np.zeros(columns, np.float32), np.zeros(columns, np.float32), 0
    while columns - first >= COLUMNS:
        vectors, g, x, place = strip_of(columns - first), gradient + 2 * first, source + 2 * first, 4 * first
        bits, m = marks + first // 8, masked + 2 * first
        mean, sums, others = centre.ctypes.data + place, own.ctypes.data + place, products.ctypes.data + place
        sum_marked(g, x, bits, m, count, 2 * length, vectors, mean, 0, 0, sums, others)
        first += vectors * COLUMNS
    return own, products


@njit(**KERNEL)
def write_values(source, target, like, count, length, scale, shift, rectified):
    """See `loops`."""
    factors, addends, vectors = scale.ctypes.data, shift.ctypes.data, length // COLUMNS
    if length % COLUMNS > 0:
        loops.write_values(source, target, like, count, length, scale, shift, rectified)
    elif rectified:
        rows_of_rectified(source, factors, addends, target, count, 2 * length, vectors)
    else:
        rows_of_values(source, factors, addends, target, count, 2 * length, vectors)


@njit(**KERNEL)
def write_sum(source, other, target, like, count, length, scale, shift):
    """See `loops`."""
    if length % COLUMNS > 0:
        loops.write_sum(source, other, target, like, count, length, scale, shift)
    else:
        factors, addends = scale.ctypes.data, shift.ctypes.data
        rows_of_sum(source, other, factors, addends, target, count, 2 * length, length // COLUMNS)


@njit(**KERNEL)
def write_marked_sum(source, other, target, marks, like, count, length, scale, shift):
    """See `loops`. The length is a multiple of 16."""
    factors, addends = scale.ctypes.data, shift.ctypes.data
    rows_of_marked_sum(source, other, factors, addends, target, count, length // COLUMNS, marks)


@njit(**KERNEL)
def write_gradient(gradient, source, target, like, count, length, scale, shift, slope, offset, rectified):
    """See `loops`."""
    factors, addends, slopes, offsets = scale.ctypes.data, shift.ctypes.data, slope.ctypes.data, offset.ctypes.data
    vectors = length // COLUMNS
    if length % COLUMNS > 0:
        loops.write_gradient(gradient, source, target, like, count, length, scale, shift, slope, offset, rectified)
    elif rectified:
        rows_of_rectified_gradient(
            gradient, source, factors, addends, slopes, offsets, target, count, 2 * length, vectors
        )
    else:
        rows_of_gradient(gradient, source, factors, addends, slopes, offsets, target, count, 2 * length, vectors)
