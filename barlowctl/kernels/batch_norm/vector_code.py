"""Vector code of batch norm over maps in bfloat16: sums over rows, and results row by row; see `vectors`.

All is an address or a size, in bytes, except `count`, of rows, and `vectors`, of 16 columns each. x, g, y and m are
bfloat16, the others float32.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from barlowctl.kernels.float_vectors import FLOAT, add_product, constant, load_some, narrowed, store_some
from barlowctl.kernels.vector_code import LONG, at, for_each, load, prefetch, repeat, store

STRIP = 8
"""Vectors of a row whose sums are in registers."""
AHEAD = 16
"""So many rows before they are summed, they are fetched into the cache: a strip of a wide row is short."""
COLUMNS = 16
"""Numbers of a vector, as AVX-512 has them; on a processor whose vectors are shorter LLVM takes several for each."""
WIDE, HALF, MARKS = 4 * COLUMNS, 2 * COLUMNS, COLUMNS // 8
"""Bytes of a vector, of its numbers in bfloat16, and of a bit for each."""
VECTOR = ir.VectorType(FLOAT, COLUMNS)
_LONGS = types.int64
_WORDS, _HALVES, _BITS = (ir.VectorType(ir.IntType(bits), COLUMNS) for bits in (32, 16, 1))
_ZEROS = constant(0.0, VECTOR)


def _sums(terms: Callable[[Any, list[Any], int, dict[str, Any]], Any], marked: bool = False) -> Any:
    """The code of sums over rows. terms: (builder, addresses, vector, of columns) to the number and its factor.

    marked: y are marks, a bit for each value.
    """

    def code(context, b, signature, arguments):
        g, x, y, m, count, row, vectors, centre, scale, shift, total, other = arguments

        def strip(width):
            def of_columns(address):
                return [load(b, b.add(address, LONG(number * WIDE)), VECTOR, 4) for number in range(width)]

            columns = {"centre": of_columns(centre)}

            def step(index, sums):
                offset = b.mul(index, row)
                rows = offset, offset, b.lshr(offset, LONG(4)) if marked else offset, offset
                own = [b.add(start, place) for start, place in zip((g, x, y, m), rows, strict=True)]
                for start in own[:2]:
                    for number in range(0, width, 2):  # lines of the cache
                        prefetch(b, b.add(at(b, start, LONG(AHEAD), row), LONG(number * HALF)))
                out = []
                for number in range(width):
                    value, factor = terms(b, own, number, {**columns, "scale": scale, "shift": shift})
                    out += [b.fadd(sums[2 * number], value), add_product(b, sums[2 * number + 1], value, factor)]
                return out

            sums = repeat(b, count, step, [_ZEROS] * (2 * width))
            for number in range(width):
                store(b, sums[2 * number], b.add(total, LONG(number * WIDE)), 4)
                store(b, sums[2 * number + 1], b.add(other, LONG(number * WIDE)), 4)

        for_each(b, vectors, (1, 2, 4, STRIP), strip)
        return context.get_dummy_value()

    return types.void(*[_LONGS] * 12), code


def _read(b: Any, address: Any, number: int) -> Any:
    return load_some(b, b.add(address, LONG(number * HALF)), True, VECTOR)


def _at(b: Any, address: Any, number: int) -> Any:
    return load(b, b.add(address, LONG(number * WIDE)), VECTOR, 4)


def _passed(b: Any, value: Any, scale: Any, shift: Any) -> Any:
    """Whether a ReLU let the result through, which is then above 0, or no number."""
    return b.fcmp_unordered(">", add_product(b, shift, value, scale), _ZEROS)


@intrinsic
def sum_values(typing_context, g, x, y, m, count, row, vectors, centre, scale, shift, total, other):
    """total, other = sums of x - centre and of its square; see `loops.add_block`."""

    def terms(b, own, number, of):
        value = b.fsub(_read(b, own[1], number), of["centre"][number])
        return value, value

    return _sums(terms)


@intrinsic
def sum_products(typing_context, g, x, y, m, count, row, vectors, centre, scale, shift, total, other):
    """total, other = sums of a gradient and of its product with x - centre; see `loops.add_product_block`."""

    def terms(b, own, number, of):
        return _read(b, own[0], number), b.fsub(_read(b, own[1], number), of["centre"][number])

    return _sums(terms)


@intrinsic
def sum_rectified(typing_context, g, x, y, m, count, row, vectors, centre, scale, shift, total, other):
    """The same of what a ReLU let through; see `loops.add_rectified_block`."""

    def terms(b, own, number, of):
        value = _read(b, own[1], number)
        passed = _passed(b, value, _at(b, of["scale"], number), _at(b, of["shift"], number))
        whole = b.select(passed, _read(b, own[0], number), _ZEROS)
        return whole, b.fsub(value, of["centre"][number])

    return _sums(terms)


@intrinsic
def sum_masked(typing_context, g, x, y, m, count, row, vectors, centre, scale, shift, total, other):
    """The same where y is not 0; the gradient, and 0 elsewhere, is written to m: `loops.add_masked_block`."""

    def terms(b, own, number, of):
        passed = _passes(b, load(b, b.add(own[2], LONG(number * HALF)), _HALVES, 2))
        return _masked(b, passed, own, number), b.fsub(_read(b, own[1], number), of["centre"][number])

    return _sums(terms)


@intrinsic
def sum_marked(typing_context, g, x, y, m, count, row, vectors, centre, scale, shift, total, other):
    """The same where y, a bit for each value, is 1: `loops.add_marked_block`."""

    def terms(b, own, number, of):
        bits = load(b, b.add(own[2], LONG(number * MARKS)), ir.IntType(8 * MARKS))
        passed = b.bitcast(bits, _BITS)
        return _masked(b, passed, own, number), b.fsub(_read(b, own[1], number), of["centre"][number])

    return _sums(terms, marked=True)


def _masked(b: Any, passed: Any, own: Sequence[Any], number: int) -> Any:
    """The gradient of what passed, and 0 elsewhere, which is written."""
    place = LONG(number * HALF)
    whole = b.select(passed, load(b, b.add(own[0], place), _HALVES, 2), ir.Constant(_HALVES, [0] * COLUMNS))
    store(b, whole, b.add(own[3], place), 2)
    return b.bitcast(b.shl(b.zext(whole, _WORDS), ir.Constant(_WORDS, [16] * COLUMNS)), VECTOR)


def _passes(b: Any, bits: Any) -> Any:
    """Which numbers in bfloat16 are not 0, by their bits."""
    magnitude = b.and_(bits, ir.Constant(_HALVES, [0x7FFF] * COLUMNS))
    return b.icmp_unsigned("!=", magnitude, ir.Constant(_HALVES, [0] * COLUMNS))


def _rows(result: Callable[[Any, Sequence[Any], Sequence[Any]], Any], sources: int) -> Any:
    """The code of results, row by row. result: (builder, values of each source, of each factor) to what is written."""

    def code(context, b, signature, arguments):
        *addresses, target, count, row, vectors = arguments

        def line(index, _):
            offset = b.mul(index, row)
            starts = [b.add(address, offset) for address in addresses[:sources]]
            out = b.add(target, offset)

            def vector(number, _):
                values = [load_some(b, at(b, start, number, HALF), True, VECTOR) for start in starts]
                factors = [load(b, at(b, address, number, WIDE), VECTOR, 4) for address in addresses[sources:]]
                store_some(b, result(b, values, factors), at(b, out, number, HALF), True)
                return []

            repeat(b, vectors, vector, [])
            return []

        repeat(b, count, line, [])
        return context.get_dummy_value()

    return code


def _rectified(b: Any, value: Any) -> Any:
    """The value, and 0 where it is below; what is no number stays so."""
    return b.select(b.fcmp_ordered("<", value, _ZEROS), _ZEROS, value)


@intrinsic
def rows_of_values(typing_context, x, scale, shift, target, count, row, vectors):
    """target = x scale + shift."""

    def result(b, values, factors):
        return add_product(b, factors[1], values[0], factors[0])

    return types.void(*[_LONGS] * 7), _rows(result, 1)


@intrinsic
def rows_of_rectified(typing_context, x, scale, shift, target, count, row, vectors):
    """The same without what is negative."""

    def result(b, values, factors):
        return _rectified(b, add_product(b, factors[1], values[0], factors[0]))

    return types.void(*[_LONGS] * 7), _rows(result, 1)


@intrinsic
def rows_of_sum(typing_context, x, other, scale, shift, target, count, row, vectors):
    """target = x scale + shift + other, without what is negative."""

    def result(b, values, factors):
        return _rectified(b, b.fadd(add_product(b, factors[1], values[0], factors[0]), values[1]))

    return types.void(*[_LONGS] * 8), _rows(result, 2)


@intrinsic
def rows_of_marked_sum(typing_context, x, other, scale, shift, target, count, vectors, marks):
    """The same; and marks, a bit for each value that says that it is not 0. Rows lie after one another."""

    def code(context, b, signature, arguments):
        x, other, scale, shift, target, count, vectors, marks = arguments

        def line(index, _):
            before = b.mul(index, vectors)

            def vector(number, _):
                place = b.add(before, number)
                values = [load_some(b, at(b, start, place, HALF), True, VECTOR) for start in (x, other)]
                factors = [load(b, at(b, address, number, WIDE), VECTOR, 4) for address in (scale, shift)]
                value = b.fadd(add_product(b, factors[1], values[0], factors[0]), values[1])
                bits = narrowed(b, _rectified(b, value))
                store(b, bits, at(b, target, place, HALF))
                store(b, b.bitcast(_passes(b, bits), ir.IntType(8 * MARKS)), at(b, marks, place, MARKS))
                return []

            repeat(b, vectors, vector, [])
            return []

        repeat(b, count, line, [])
        return context.get_dummy_value()

    return types.void(*[_LONGS] * 8), code


@intrinsic
def rows_of_gradient(typing_context, g, x, scale, shift, slope, offset, target, count, row, vectors):
    """target = g scale + x slope + offset."""

    def result(b, values, factors):
        scale, _, slope, offset = factors
        return add_product(b, add_product(b, offset, values[1], slope), values[0], scale)

    return types.void(*[_LONGS] * 10), _rows(result, 2)


@intrinsic
def rows_of_rectified_gradient(typing_context, g, x, scale, shift, slope, offset, target, count, row, vectors):
    """The same of what a ReLU let through."""

    def result(b, values, factors):
        scale, shift, slope, offset = factors
        whole = b.select(_passed(b, values[1], scale, shift), values[0], _ZEROS)
        return add_product(b, add_product(b, offset, values[1], slope), whole, scale)

    return types.void(*[_LONGS] * 10), _rows(result, 2)
