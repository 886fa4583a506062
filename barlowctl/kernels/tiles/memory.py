"""Rows of tiles in memory, in LLVM's instructions: 16 numbers of float32, or 32 of bfloat16, in a line of 64 bytes.

A product is summed up for 32 rows and 32 columns at a time (see `sums`). All is in bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from barlowctl.kernels.float_vectors import FLOAT, load_some, store_some
from barlowctl.kernels.vector_code import LONG, at, load, store

ROWS = 16
"""Rows of a tile, and numbers of float32 in a row of it."""
SIDE = 2 * ROWS
"""Rows and columns that are summed at a time; and numbers of bfloat16 in a row of a tile."""
LINE = 64
"""Bytes of a row of a tile."""
WORDS, VECTOR = ir.VectorType(ir.IntType(32), ROWS), ir.VectorType(FLOAT, ROWS)
"""A line, whatever vectors the processor has."""
_LONGS = types.int64


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
            store_some(b, b.fadd(value, load_some(b, place, True, VECTOR)), place, True)
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
                rows[number] = b.shuffle_vector(upper, lower, ir.Constant(WORDS, places))
        distance //= 2
    return rows


@intrinsic
def turn(typing_context, source, source_row, target, target_row):
    """Write the transpose of a square of 16 rows of 16 words of 32 bits."""

    def code(context, b, signature, arguments):
        source, source_row, target, target_row = arguments
        rows = [load(b, at(b, source, LONG(number), source_row), WORDS, 2) for number in range(ROWS)]
        for number, row in enumerate(_turned(b, rows)):
            store(b, row, at(b, target, LONG(number), target_row), 2)
        return context.get_dummy_value()

    return types.void(*[_LONGS] * 4), code


@intrinsic
def pair_rows(typing_context, upper, lower, target):
    """Write 16 pairs of numbers of bfloat16: each of the upper row, and the one below it."""

    def code(context, b, signature, arguments):
        halves = ir.VectorType(ir.IntType(16), ROWS)
        upper, lower = (b.zext(load(b, address, halves, 2), WORDS) for address in arguments[:2])
        store(b, b.or_(upper, b.shl(lower, ir.Constant(WORDS, [16] * ROWS))), arguments[2], 2)
        return context.get_dummy_value()

    return types.void(*[_LONGS] * 3), code
