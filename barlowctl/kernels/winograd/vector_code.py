"""Vector code of Winograd's convolutions: tiles of a map transformed, multiplied and transformed back.

Everything is an address, in bytes, of float32; numbers of maps are bfloat16 where it says `bf16`. A tile has m x m
pixels of a result and sees (m + 2) x (m + 2) of the map; of these, and of the nine weights, (m + 2) squared transformed
numbers are computed, which are multiplied one by one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numba import types
from numba.extending import intrinsic

from barlowctl.kernels.float_vectors import (
    COLUMNS,
    LANES,
    VECTOR,
    WIDE,
    add_product,
    constant,
    load_all,
    load_some,
    repeated,
    store_all,
    store_some,
)
from barlowctl.kernels.vector_code import LONG, at, for_each, load, prefetch, repeat, store
from barlowctl.kernels.winograd.toom_cook import TRANSFORMS, Matrix, transposed
from barlowctl.kernels.winograd.transforms import pixels, twice

ROWS = 6
"""Up to so many rows of up to COLUMNS vectors are summed at a time, in registers."""
AHEAD = 16
"""So many steps before weights are multiplied they are fetched into the cache."""
BLOCK = LANES * COLUMNS
_LONGS = types.int64


def _transform(shift: int, matrix: Matrix, bf16: bool) -> Any:
    """The code of `transform_inputs` and `transform_gradients`."""
    step = WIDE // 2 if bf16 else WIDE

    def code(context, b, signature, arguments):
        _, _, x, zeros, top, left, height, width, size, groups, vectors, out, part, stretch = arguments
        first = b.add(left, LONG(shift))

        def group(number, _):
            before, start = at(b, x, b.mul(number, vectors), step), at(b, out, number, stretch)

            def line(number):
                place = b.add(b.add(top, LONG(shift)), number), first
                line_size = b.mul(width, size)
                own = pixels(b, before, zeros, place, (0, 1), (line_size, size), (height, width), len(matrix[0]))
                following = [b.add(pixel, b.mul(size, LONG(len(matrix[0]) - (2 if shift else 0)))) for pixel in own]

                def values(index):
                    for pixel in following:
                        prefetch(b, at(b, pixel, index, step))
                    return [load_some(b, at(b, pixel, index, step), bf16) for pixel in own]

                return values

            def column(number):
                target = at(b, start, number, part)
                return lambda index, values: store_all(
                    b, values, at(b, target, index, WIDE), b.mul(part, LONG(len(matrix)))
                )

            twice(b, matrix, vectors, line, column)
            return []

        repeat(b, groups, group, [])
        return context.get_dummy_value()

    return code


@intrinsic(prefer_literal=True)
def transform_inputs(
    typing_context, m, bf16, x, zeros, top, left, height, width, size, groups, vectors, out, part, stretch
):
    """The transformed numbers of what the tile at (top, left) of a map sees: the k-th at out + k part.

    Of `groups` groups of `vectors` vectors of channels; groups are written `stretch` bytes apart. size: of a pixel, in
    bytes. zeros: as many.
    """
    matrix = TRANSFORMS[m.literal_value].inputs
    return types.void(m, bf16, *[_LONGS] * 12), _transform(-1, matrix, bool(bf16.literal_value))


@intrinsic(prefer_literal=True)
def transform_gradients(
    typing_context, m, bf16, x, zeros, top, left, height, width, size, groups, vectors, out, part, stretch
):
    """The same of the gradient of the tile's own pixels."""
    matrix = transposed(TRANSFORMS[m.literal_value].outputs)
    return types.void(m, bf16, *[_LONGS] * 12), _transform(0, matrix, bool(bf16.literal_value))


def _between(b: Any, matrix: Matrix, vectors: Any, x: Any, x_part: Any, out: Any, out_part: Any) -> None:
    """The transformed numbers of squares of numbers in memory, of which the k-th is at x + k x_part."""
    side = len(matrix[0])

    def line(number):
        start = at(b, x, number, b.mul(x_part, LONG(side)))
        return lambda index: load_all(b, at(b, start, index, WIDE), x_part, side)

    def column(number):
        target = at(b, out, number, out_part)
        return lambda index, values: store_all(
            b, values, at(b, target, index, WIDE), b.mul(out_part, LONG(len(matrix)))
        )

    twice(b, matrix, vectors, line, column)


@intrinsic(prefer_literal=True)
def transform_taps(typing_context, m, w, tap, vectors, out, part):
    """The transformed numbers of `vectors` vectors of the nine weights at w, w + tap and so on: at out + k part."""

    def code(context, b, signature, arguments):
        _, w, tap, vectors, out, part = arguments
        _between(b, TRANSFORMS[m.literal_value].weights, vectors, w, tap, out, part)
        return context.get_dummy_value()

    return types.void(m, *[_LONGS] * 5), code


@intrinsic(prefer_literal=True)
def gather_taps(typing_context, m, products, part, vectors, out, tap):
    """The gradients of the nine weights, at out, out + tap and so on, of the transformed ones at products + k part."""

    def code(context, b, signature, arguments):
        _, products, part, vectors, out, tap = arguments
        _between(b, transposed(TRANSFORMS[m.literal_value].weights), vectors, products, part, out, tap)
        return context.get_dummy_value()

    return types.void(m, *[_LONGS] * 5), code


@intrinsic(prefer_literal=True)
def write_tile(typing_context, m, bf16, products, part, vectors, y, top, left, height, width, size, beyond):
    """`vectors` vectors of channels of the tile at (top, left) of the map y, of the products at products + k part.

    size: of a pixel, in bytes. beyond: where pixels beyond the map are written, `vectors` vectors.
    """
    side, in_bf16 = m.literal_value, bool(bf16.literal_value)
    matrix, step = TRANSFORMS[side].outputs, WIDE // 2 if in_bf16 else WIDE

    def code(context, b, signature, arguments):
        _, _, products, part, vectors, y, top, left, height, width, size, beyond = arguments

        def line(number):
            start = at(b, products, number, b.mul(part, LONG(side + 2)))
            return lambda index: load_all(b, at(b, start, index, WIDE), part, side + 2)

        def column(number):
            place, sizes = (top, b.add(left, number)), (b.mul(width, size), size)
            own = pixels(b, y, beyond, place, (1, 0), sizes, (height, width), side)

            def take(index, values):
                for pixel, value in zip(own, values, strict=True):
                    store_some(b, value, at(b, pixel, index, step), in_bf16)

            return take

        twice(b, matrix, vectors, line, column)
        return context.get_dummy_value()

    return types.void(m, bf16, *[_LONGS] * 10), code


def _sums(b: Any, totals: list[Any], rows: Sequence[Any], vectors: Sequence[Any]) -> list[Any]:
    """totals + each row's number times each column's vector."""
    out = []
    for row, address in enumerate(rows):
        number = repeated(b, address)
        for column, vector in enumerate(vectors):
            out.append(add_product(b, totals[row * len(vectors) + column], number, vector))
    return out


@intrinsic
def multiply(typing_context, rows, columns, x, x_row, x_step, w, count, out, out_row, adds):
    """out[row] (`columns` vectors) = the sum of x[row, i] w[i] over `count` i, and of what was there if it `adds`.

    x: numbers, rows `x_row` bytes apart and i `x_step`. w: (count, columns) vectors. out: rows `out_row` apart.
    """

    def code(context, b, signature, arguments):
        rows, columns, x, x_row, x_step, w, count, out, out_row, adds = arguments

        def block(number):
            height, width = divmod(number, COLUMNS + 1)
            starts = [at(b, x, LONG(row), x_row) for row in range(height)]
            following = at(b, x, LONG(height), x_row)
            lines = [at(b, out, LONG(row), out_row) for row in range(height)]
            places = [b.add(line, LONG(WIDE * column)) for line in lines for column in range(width)]

            def step(index, totals):
                own, offset = at(b, w, index, WIDE * width), b.mul(index, x_step)
                vectors = [load(b, b.add(own, LONG(WIDE * column)), VECTOR, 4) for column in range(width)]
                for column in range(width):
                    prefetch(b, b.add(own, LONG(WIDE * (width * AHEAD + column))))
                prefetch(b, b.add(following, at(b, LONG(0), index, 4 * height)))
                return _sums(b, totals, [b.add(start, offset) for start in starts], vectors)

            for place in places:
                prefetch(b, place)
            totals = repeat(b, count, step, [constant(0.0)] * len(places))
            ways = b.switch(adds, end := b.append_basic_block())
            for more in (False, True):
                b.position_at_end(block := b.append_basic_block())
                ways.add_case(LONG(int(more)), block)
                for total, place in zip(totals, places, strict=True):
                    store(b, b.fadd(total, load(b, place, VECTOR, 4)) if more else total, place, 4)
                b.branch(end)
            b.position_at_end(end)

        shapes = [(COLUMNS + 1) * height + width for height in range(1, ROWS + 1) for width in range(1, COLUMNS + 1)]
        for_each(b, b.add(b.mul(rows, LONG(COLUMNS + 1)), columns), shapes, block)
        return context.get_dummy_value()

    return types.void(*[_LONGS] * 10), code
