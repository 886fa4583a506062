"""Vector code of Winograd's convolutions in float32: tiles of a map transformed, multiplied and transformed back.

Everything is an address, in bytes, of float32. A tile has m x m pixels of a result and sees (m + 2) x (m + 2) of the
map; of these, and of the nine weights, (m + 2) squared transformed numbers are computed, which are multiplied one by
one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any

from numba import types
from numba.extending import intrinsic

from barlowctl.model.toom_cook import TRANSFORMS, Matrix, transposed
from barlowctl.model.vector_code import LONG, at, for_each, load, repeat, store
from barlowctl.model.winograd2d_code import (
    COLUMNS,
    LANES,
    VECTOR,
    WIDE,
    add_product,
    constant,
    load_square,
    repeated,
    squared,
    store_all,
    window,
)

ROWS = 6
"""Up to so many rows of up to COLUMNS vectors are summed at a time, in registers."""
BLOCK = LANES * COLUMNS
SIZES = tuple(TRANSFORMS)
_LONGS = types.int64


def _for_vectors(b: Any, m: Any, vectors: Any, code: Callable[[int, Any], None]) -> None:
    """`code(m, offset)` for each of some vectors of channels, which lie one after another."""

    def of_size(size: int) -> None:
        def some(index: Any, _: Any) -> list[Any]:
            code(size, b.mul(index, LONG(WIDE)))
            return []

        repeat(b, vectors, some, [])

    for_each(b, m, SIZES, of_size)


def _transform(shift: int, matrices: dict[int, Matrix]) -> Any:
    """The code of `transform_inputs` and `transform_gradients`."""

    def code(context, b, signature, arguments):
        m, x, zeros, top, left, height, width, size, groups, vectors, out, part, stretch = arguments

        def of_size(size_of_tile):
            matrix = matrices[size_of_tile]
            place = (b.add(top, LONG(shift)), b.add(left, LONG(shift)))
            pixels = window(b, x, zeros, place, (height, width), size, len(matrix[0]))

            def group(number, _):
                before, start = b.mul(number, vectors), at(b, out, number, stretch)

                def some(index, _):
                    offset, target = b.mul(b.add(before, index), LONG(WIDE)), at(b, start, index, WIDE)
                    values = [[load(b, b.add(pixel, offset), VECTOR, 4) for pixel in line] for line in pixels]
                    store_all(b, squared(b, matrix, values), target, part)
                    return []

                repeat(b, vectors, some, [])
                return []

            repeat(b, groups, group, [])

        for_each(b, m, SIZES, of_size)
        return context.get_dummy_value()

    return code


@intrinsic
def transform_inputs(typing_context, m, x, zeros, top, left, height, width, size, groups, vectors, out, part, stretch):
    """The transformed numbers of what the tile at (top, left) of a map sees: the k-th at out + k part.

    Of `groups` groups of `vectors` vectors of channels; groups are written `stretch` bytes apart. size: of a pixel, in
    bytes. zeros: as many.
    """
    return types.void(*[_LONGS] * 13), _transform(-1, {m: t.inputs for m, t in TRANSFORMS.items()})


@intrinsic
def transform_gradients(
    typing_context, m, x, zeros, top, left, height, width, size, groups, vectors, out, part, stretch
):
    """The same of the gradient of the tile's own pixels."""
    return types.void(*[_LONGS] * 13), _transform(0, {m: transposed(t.outputs) for m, t in TRANSFORMS.items()})


@intrinsic
def transform_taps(typing_context, m, w, tap, vectors, out, part):
    """The transformed numbers of `vectors` vectors of the nine weights at w, w + tap and so on: at out + k part."""

    def code(context, b, signature, arguments):
        m, w, tap, vectors, out, part = arguments

        def some(size, offset):
            values = load_square(b, b.add(w, offset), tap, 3)
            store_all(b, squared(b, TRANSFORMS[size].weights, values), b.add(out, offset), part)

        _for_vectors(b, m, vectors, some)
        return context.get_dummy_value()

    return types.void(*[_LONGS] * 6), code


@intrinsic
def gather_taps(typing_context, m, products, part, vectors, out, tap):
    """The gradients of the nine weights, at out, out + tap and so on, of the transformed ones at products + k part."""

    def code(context, b, signature, arguments):
        m, products, part, vectors, out, tap = arguments

        def some(size, offset):
            values = load_square(b, b.add(products, offset), part, size + 2)
            store_all(b, squared(b, transposed(TRANSFORMS[size].weights), values), b.add(out, offset), tap)

        _for_vectors(b, m, vectors, some)
        return context.get_dummy_value()

    return types.void(*[_LONGS] * 6), code


@intrinsic
def write_tile(typing_context, m, products, part, vectors, y, top, left, height, width, size, beyond):
    """`vectors` vectors of channels of the tile at (top, left) of the map y, of the products at products + k part.

    size: of a pixel, in bytes. beyond: where pixels beyond the map are written, `vectors` vectors.
    """

    def code(context, b, signature, arguments):
        m, products, part, vectors, y, top, left, height, width, size, beyond = arguments

        def some(side, offset):
            pixels = window(b, y, beyond, (top, left), (height, width), size, side)
            values = load_square(b, b.add(products, offset), part, side + 2)
            results = squared(b, TRANSFORMS[side].outputs, values)
            for pixel, value in zip(chain.from_iterable(pixels), results, strict=True):
                store(b, value, b.add(pixel, offset), 4)

        _for_vectors(b, m, vectors, some)
        return context.get_dummy_value()

    return types.void(*[_LONGS] * 11), code


def _sums(b: Any, totals: list[Any], rows: Sequence[Any], vectors: Sequence[Any]) -> list[Any]:
    """totals + each row's number times each column's vector."""
    out = []
    for row, address in enumerate(rows):
        number = repeated(b, address)
        for column, vector in enumerate(vectors):
            out.append(add_product(b, totals[row * len(vectors) + column], number, vector))
    return out


def _first(b: Any, adds: Any, places: Sequence[Any]) -> list[Any]:
    """The vectors at some places if it adds, else zeros."""
    before, there, after = b.block, b.append_basic_block(), b.append_basic_block()
    b.cbranch(b.icmp_signed("!=", adds, LONG(0)), there, after)
    b.position_at_end(there)
    earlier = [load(b, place, VECTOR, 4) for place in places]
    b.branch(after)
    b.position_at_end(after)
    totals = []
    for value in earlier:
        total = b.phi(VECTOR)
        total.add_incoming(constant(0.0), before)
        total.add_incoming(value, there)
        totals.append(total)
    return totals


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
            lines = [at(b, out, LONG(row), out_row) for row in range(height)]
            places = [b.add(line, LONG(WIDE * column)) for line in lines for column in range(width)]

            def step(index, totals):
                own, offset = at(b, w, index, WIDE * width), b.mul(index, x_step)
                vectors = [load(b, b.add(own, LONG(WIDE * column)), VECTOR, 4) for column in range(width)]
                return _sums(b, totals, [b.add(start, offset) for start in starts], vectors)

            totals = repeat(b, count, step, _first(b, adds, places))
            for total, place in zip(totals, places, strict=True):
                store(b, total, place, 4)

        shapes = [(COLUMNS + 1) * height + width for height in range(1, ROWS + 1) for width in range(1, COLUMNS + 1)]
        for_each(b, b.add(b.mul(rows, LONG(COLUMNS + 1)), columns), shapes, block)
        return context.get_dummy_value()

    return types.void(*[_LONGS] * 10), code
