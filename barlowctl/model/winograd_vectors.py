"""Vector code of Winograd's convolutions in bfloat16: transformed pixels, and sums of products that stay in registers.

Written in LLVM's vectors of 16 numbers, with the instruction for products of pairs of bfloat16 where the processor has
it (`NATIVE`), and with float32 arithmetic elsewhere, for tests. Everything is an address, in bytes. Numbers are
bfloat16 in memory, float32 in registers, and are rounded to the nearest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numba
from llvmlite import binding, ir
from numba import types
from numba.extending import intrinsic

from barlowctl.model.vector_code import LONG, at, call, for_each, load, repeat, store

LANES = 16
ROWS, COLUMNS = 6, 4
"""What is summed at a time: up to 6 rows of 4 vectors, in 24 registers of 32."""
ALL = 4
"""In the place of one of four transformed numbers: all of them."""

FEATURES: dict[str, bool] = dict(binding.get_host_cpu_features())
NATIVE = FEATURES.get("avx512bf16", False) and not any(
    getattr(numba.config, name) for name in ("CPU_NAME", "CPU_FEATURES")
)

_HALF, _WORD, _FLOAT = ir.IntType(16), ir.IntType(32), ir.FloatType()
_HALVES, _WORDS, _FLOATS = (ir.VectorType(kind, LANES) for kind in (_HALF, _WORD, _FLOAT))
_EACH, _HIGH, _UPPER = (ir.Constant(_WORDS, [value] * LANES) for value in (0, 16, 0xFFFF0000))


def _wide(b: Any, halves: Any) -> Any:
    return b.bitcast(b.shl(b.zext(halves, _WORDS), _HIGH), _FLOATS)


def _narrow(b: Any, floats: Any) -> Any:
    """Sixteen bfloat16 in the lower halves of words."""
    if NATIVE:
        return b.zext(call(b, "llvm.x86.avx512bf16.cvtneps2bf16.512", _HALVES, [floats]), _WORDS)
    bits = b.bitcast(floats, _WORDS)
    odd = b.and_(b.lshr(bits, _HIGH), ir.Constant(_WORDS, [1] * LANES))
    return b.lshr(b.add(b.add(bits, ir.Constant(_WORDS, [0x7FFF] * LANES)), odd), _HIGH)


def _add_products(b: Any, total: Any, one: Any, other: Any) -> Any:
    """total + the products of both bfloat16 of each word."""
    if NATIVE:
        return call(b, "llvm.x86.avx512bf16.dpbf16ps.512", _FLOATS, [total, one, other])
    lower = [b.bitcast(b.shl(words, _HIGH), _FLOATS) for words in (one, other)]
    upper = [b.bitcast(b.and_(words, _UPPER), _FLOATS) for words in (one, other)]
    return b.fadd(b.fadd(total, b.fmul(*lower)), b.fmul(*upper))


def _sums(b: Any, totals: list[Any], pairs: Sequence[Any], vectors: Sequence[Any]) -> list[Any]:
    """totals + each row's pair of numbers times each column's vector."""
    undefined, out = ir.Constant(_WORDS, ir.Undefined), []
    for row, address in enumerate(pairs):
        pair = b.insert_element(undefined, load(b, address, _WORD), _WORD(0))
        pair = b.shuffle_vector(pair, undefined, _EACH)
        out += [_add_products(b, totals[row * COLUMNS + column], pair, vector) for column, vector in enumerate(vectors)]
    return out


@intrinsic
def multiply(typing_context, rows, x, x_row, x_tap, weights, taps, pairs, out):
    """out[row] (float32, 64 to a row) = sum of x[row, tap, pair] weights[tap, pair] over taps and pairs.

    x: rows `x_row` bytes apart, taps `x_tap`, pairs of numbers next to each other. weights: (taps, pairs, 64, 2).
    """

    def code(context, b, signature, arguments):
        rows, x, x_row, x_tap, weights, taps, pairs, out = arguments

        def block(height):
            def tap(number, totals):
                there = at(b, x, number, x_tap)
                lines = [at(b, there, LONG(row), x_row) for row in range(height)]
                matrix = at(b, weights, b.mul(number, pairs), 64 * COLUMNS)

                def pair(index, totals):
                    own = at(b, matrix, index, 64 * COLUMNS)
                    vectors = [load(b, b.add(own, LONG(64 * column)), _WORDS) for column in range(COLUMNS)]
                    return _sums(b, totals, [at(b, line, index, 4) for line in lines], vectors)

                return repeat(b, pairs, pair, totals)

            zeros = [ir.Constant(_FLOATS, [0.0] * LANES)] * (height * COLUMNS)
            for number, total in enumerate(repeat(b, taps, tap, zeros)):
                store(b, total, b.add(out, LONG(64 * number)))

        for_each(b, rows, range(1, ROWS + 1), block)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 8), code


@intrinsic
def accumulate(typing_context, rows, x, y, y_column, pairs, out, out_row):
    """out[row] (float32, 64 numbers of a row) += sum of x[pair, row] y[pair] over pairs.

    x: (pairs, 16, 2), of which the first `rows` of 16. y: four of (pairs, 16, 2), `y_column` bytes apart.
    """

    def code(context, b, signature, arguments):
        rows, x, y, y_column, pairs, out, out_row = arguments

        def block(height):
            lines = [at(b, out, LONG(row), out_row) for row in range(height)]
            places = [b.add(line, LONG(64 * column)) for line in lines for column in range(COLUMNS)]
            columns = [at(b, y, LONG(column), y_column) for column in range(COLUMNS)]

            def pair(index, totals):
                own = at(b, x, index, 64)
                vectors = [load(b, at(b, column, index, 64), _WORDS) for column in columns]
                return _sums(b, totals, [b.add(own, LONG(4 * row)) for row in range(height)], vectors)

            totals = repeat(b, pairs, pair, [load(b, place, _FLOATS) for place in places])
            for total, place in zip(totals, places, strict=True):
                store(b, total, place)

        for_each(b, rows, range(1, ROWS + 1), block)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 7), code


def _pixels(b: Any, x: Any, zeros: Any, size: Any, column: Any, width: Any, count: int) -> list[Any]:
    """Addresses of `count` pixels of a line from `column` on; `zeros` stands for those beyond the map."""
    out = []
    for number in range(count):
        there = b.add(column, LONG(number))
        inside = b.icmp_unsigned("<", there, width)  # a negative column is a large one
        out.append(b.select(inside, at(b, x, there, size), zeros))
    return out


def _of_input(b: Any, d: list[Any]) -> list[Any]:
    return [b.fsub(d[0], d[2]), b.fadd(d[1], d[2]), b.fsub(d[2], d[1]), b.fsub(d[1], d[3])]


def _of_gradient(b: Any, g: list[Any]) -> list[Any]:
    return [g[0], b.fadd(g[0], g[1]), b.fsub(g[0], g[1]), b.fneg(g[1])]


@intrinsic
def transform(typing_context, x, zeros, channels, column, width, out, part):
    """The four transformed numbers of four pixels from `column` of the line x on, at out, out + part and so on."""

    def code(context, b, signature, arguments):
        x, zeros, channels, column, width, out, part = arguments
        pixels = _pixels(b, x, zeros, b.mul(channels, LONG(2)), column, width, 4)

        def some(index, _):
            numbers = [_wide(b, load(b, at(b, pixel, index, 2 * LANES), _HALVES)) for pixel in pixels]
            for number, value in enumerate(_of_input(b, numbers)):
                there = at(b, at(b, out, LONG(number), part), index, 2 * LANES)
                store(b, b.trunc(_narrow(b, value), _HALVES), there)
            return []

        repeat(b, b.sdiv(channels, LONG(LANES)), some, [])
        return context.get_dummy_value()

    return types.void(*[types.int64] * 7), code


def _transform_two(first: int, count: int, way: Callable[[Any, list[Any]], list[Any]]) -> Callable[..., Any]:
    """The code of `transform_inputs` and `transform_gradients`, whose tiles see `count` pixels from `first` on."""

    def code(context, b, signature, arguments):
        k, x, other, zeros, channels, size, width, out, stretch, part = arguments
        size = b.mul(size, LONG(2))
        there = b.icmp_signed("!=", other, LONG(0))

        def line(which):
            numbers = range(4) if which == ALL else (which,)

            def tile(index, _):
                column = b.add(b.mul(index, LONG(2)), LONG(first))
                lines = [_pixels(b, start, zeros, size, column, width, count) for start in (x, other)]
                lines[1] = [b.select(there, pixel, zeros) for pixel in lines[1]]
                target = at(b, out, index, 64)

                def some(index, _):
                    ways = []
                    for pixels in lines:
                        addresses = [at(b, pixel, index, 2 * LANES) for pixel in pixels]
                        values = way(b, [_wide(b, load(b, address, _HALVES)) for address in addresses])
                        ways.append([_narrow(b, values[number]) for number in numbers])
                    for place, (lower, upper) in enumerate(zip(*ways, strict=True)):
                        target_of_some = at(b, at(b, target, LONG(place), part), index, stretch)
                        store(b, b.or_(lower, b.shl(upper, _HIGH)), target_of_some)
                    return []

                repeat(b, b.sdiv(channels, LONG(LANES)), some, [])
                return []

            repeat(b, b.sdiv(b.add(width, LONG(1)), LONG(2)), tile, [])

        for_each(b, k, (*range(4), ALL), line)
        return context.get_dummy_value()

    return code


@intrinsic
def transform_inputs(typing_context, k, x, other, zeros, channels, size, width, out, stretch, part):
    """The k-th transformed number of the tiles of a line of each of two images, in pairs: (tiles, 16, 2) at out.

    Of 16 channels; the next 16 lie `stretch` bytes on. `ALL`: the four of them, at out, out + part and so on.
    other: 0 where there is no second image. size: channels of a pixel, which are `channels` or more.
    """
    return types.void(*[types.int64] * 10), _transform_two(-1, 4, _of_input)


@intrinsic
def transform_gradients(typing_context, k, x, other, zeros, channels, size, width, out, stretch, part):
    """The same of the gradient of two pixels."""
    return types.void(*[types.int64] * 10), _transform_two(0, 2, _of_gradient)


@intrinsic
def write_pixels(typing_context, products, part, out, size, both):
    """64 channels of the pixel at `out`, and where `both` of the next at out + size, from four sums of products."""

    def code(context, b, signature, arguments):
        products, part, out, size, both = arguments
        two = b.icmp_signed("!=", both, LONG(0))
        second = b.select(two, b.add(out, size), out)
        for column in range(COLUMNS):
            m = [load(b, b.add(at(b, products, LONG(k), part), LONG(64 * column)), _FLOATS) for k in range(4)]
            values = [b.fadd(m[0], b.fadd(m[1], m[2])), b.fsub(b.fsub(m[1], m[2]), m[3])]
            for value, there in zip(reversed(values), (second, out), strict=True):
                store(b, b.trunc(_narrow(b, value), _HALVES), b.add(there, LONG(2 * LANES * column)))
        return context.get_dummy_value()

    return types.void(*[types.int64] * 5), code
