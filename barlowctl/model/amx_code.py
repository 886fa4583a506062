"""Products of matrices of bfloat16 by a processor's tiles (Intel's AMX), in LLVM's instructions.

A tile is 16 rows of 64 bytes. Four of float32 are summed at a time: 32 rows and 32 columns of a result, of two tiles of
the one factor and two of the other. All addresses and sizes are in bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from barlowctl.model.vector_code import LONG, at, load, repeat, store
from barlowctl.model.winograd_code import VECTOR, load_some, store_some

ROWS = 16
"""Rows of a tile, and numbers of float32 in a row of it."""
SIDE = 2 * ROWS
"""Rows and columns that are summed at a time; and numbers of bfloat16 in a row of a tile."""
LINE = 64
"""Bytes of a row of a tile."""
_SUMS, _LEFT, _RIGHT = (0, 1, 2, 3), (4, 5), (6, 7)
"""Of the eight tiles: sums, row by row; and the factors."""
_BYTE = ir.IntType(8)
_ADDRESS = _BYTE.as_pointer()
_WORDS = ir.VectorType(ir.IntType(32), ROWS)
_LONGS = types.int64


def configuration() -> np.ndarray:
    """What `configure` takes the address of: eight tiles of 16 rows of 64 bytes."""
    out = np.zeros(64, np.uint8)
    out[0] = 1  # the only palette that there is
    out[16:32:2], out[48:56] = LINE, ROWS
    return out


def _tell(b: Any, name: str, *arguments: Any) -> None:
    kind = ir.FunctionType(ir.VoidType(), [argument.type for argument in arguments])
    b.call(cgutils.get_or_insert_function(b.module, kind, f"llvm.x86.{name}"), arguments)


def _to(b: Any, address: Any) -> Any:
    return b.inttoptr(address, _ADDRESS)


@intrinsic
def configure(typing_context, address):
    """Begin with tiles: each thread has its own."""

    def code(context, b, signature, arguments):
        _tell(b, "ldtilecfg", _to(b, arguments[0]))
        return context.get_dummy_value()

    return types.void(_LONGS), code


@intrinsic
def release(typing_context):
    """End with tiles."""

    def code(context, b, signature, arguments):
        _tell(b, "tilerelease")
        return context.get_dummy_value()

    return types.void(), code


@intrinsic
def clear_sums(typing_context):
    """Begin with sums of 0."""

    def code(context, b, signature, arguments):
        for tile in _SUMS:
            _tell(b, "tilezero", _BYTE(tile))
        return context.get_dummy_value()

    return types.void(), code


def _each_sum(b: Any, name: str, out: Any, row: Any) -> None:
    below = b.mul(row, LONG(ROWS))
    places = [out, b.add(out, LONG(LINE)), b.add(out, below), b.add(b.add(out, below), LONG(LINE))]
    for tile, place in zip(_SUMS, places, strict=True):
        _tell(b, name, _BYTE(tile), _to(b, place), row)


@intrinsic
def load_sums(typing_context, out, row):
    """Go on with the sums, float32, that lie at `out`, whose rows are `row` apart."""

    def code(context, b, signature, arguments):
        _each_sum(b, "tileloadd64", *arguments)
        return context.get_dummy_value()

    return types.void(_LONGS, _LONGS), code


@intrinsic
def store_sums(typing_context, out, row):
    """Write the sums there."""

    def code(context, b, signature, arguments):
        _each_sum(b, "tilestored64", *arguments)
        return context.get_dummy_value()

    return types.void(_LONGS, _LONGS), code


@intrinsic
def add_products(typing_context, count, left, left_row, left_half, left_step, right, right_row, right_half, right_step):
    """Add the products of `count` pairs of factors, 1 or more, to the sums.

    A factor on the left is 32 rows of 32 numbers; one on the right is 16 rows of 32 pairs of numbers, the pair of a
    column being those of two rows of the matrix. `row`: from one row to the next. `half`: from the first 16 rows, or
    columns, to the others. `step`: from one factor to the next.
    """

    def code(context, b, signature, arguments):
        count, left, left_row, left_half, left_step, right, right_row, right_half, right_step = arguments

        def step(_, places):
            for tiles, start, row, half in zip(
                (_LEFT, _RIGHT), places, (left_row, right_row), (left_half, right_half), strict=True
            ):
                _tell(b, "tileloadd64", _BYTE(tiles[0]), _to(b, start), row)
                _tell(b, "tileloadd64", _BYTE(tiles[1]), _to(b, b.add(start, half)), row)
            for tile in _SUMS:
                _tell(b, "tdpbf16ps", _BYTE(tile), _BYTE(_LEFT[tile // 2]), _BYTE(_RIGHT[tile % 2]))
            return [b.add(places[0], left_step), b.add(places[1], right_step)]

        repeat(b, count, step, [left, right])
        return context.get_dummy_value()

    return types.void(*[_LONGS] * 9), code


@intrinsic
def round_row(typing_context, source, target):
    """Write 32 numbers of float32 as bfloat16, the nearest ones."""

    def code(context, b, signature, arguments):
        source, target = arguments
        for half in range(2):
            value = load(b, b.add(source, LONG(half * LINE)), VECTOR, 4)
            store_some(b, value, b.add(target, LONG(half * LINE // 2)), True)
        return context.get_dummy_value()

    return types.void(_LONGS, _LONGS), code


@intrinsic
def add_row(typing_context, source, target):
    """Add 32 numbers of float32 to as many of bfloat16, and round the sums to the nearest."""

    def code(context, b, signature, arguments):
        source, target = arguments
        for half in range(2):
            place = b.add(target, LONG(half * LINE // 2))
            value = load(b, b.add(source, LONG(half * LINE)), VECTOR, 4)
            store_some(b, b.fadd(value, load_some(b, place, True)), place, True)
        return context.get_dummy_value()

    return types.void(_LONGS, _LONGS), code


def _turned(b: Any, rows: Sequence[Any]) -> list[Any]:
    """The transpose of a square of 16 vectors of 16 words: halves change places, then quarters, and so on."""
    rows = list(rows)
    distance = ROWS // 2
    while distance:
        for first in (number for number in range(ROWS) if not number & distance):
            upper, lower = rows[first], rows[first + distance]
            for number, start in ((first, 0), (first + distance, distance)):
                places = [(lane & ~distance) + start + (ROWS if lane & distance else 0) for lane in range(ROWS)]
                rows[number] = b.shuffle_vector(upper, lower, ir.Constant(_WORDS, places))
        distance //= 2
    return rows


@intrinsic
def turn(typing_context, source, source_row, target, target_row):
    """Write the transpose of a square of 16 rows of 16 words of 32 bits."""

    def code(context, b, signature, arguments):
        source, source_row, target, target_row = arguments
        rows = [load(b, at(b, source, LONG(number), source_row), _WORDS, 2) for number in range(ROWS)]
        for number, row in enumerate(_turned(b, rows)):
            store(b, row, at(b, target, LONG(number), target_row), 2)
        return context.get_dummy_value()

    return types.void(*[_LONGS] * 4), code


@intrinsic
def pair_rows(typing_context, upper, lower, target):
    """Write 16 pairs of numbers of bfloat16: each of the upper row, and the one below it."""

    def code(context, b, signature, arguments):
        halves = ir.VectorType(ir.IntType(16), ROWS)
        upper, lower = (b.zext(load(b, address, halves, 2), _WORDS) for address in arguments[:2])
        store(b, b.or_(upper, b.shl(lower, ir.Constant(_WORDS, [16] * ROWS))), arguments[2], 2)
        return context.get_dummy_value()

    return types.void(*[_LONGS] * 3), code
