"""Products of matrices of bfloat16 by a processor's tiles (Intel's AMX), in LLVM's instructions; see `sums`.

A tile is 16 rows of 64 bytes. Four of float32 are summed at a time: 32 rows and 32 columns of a result, of two tiles of
the one factor and two of the other.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from barlowctl.kernels.tiles.memory import LINE, ROWS
from barlowctl.kernels.vector_code import LONG, repeat

_SUMS, _LEFT, _RIGHT = (0, 1, 2, 3), (4, 5), (6, 7)
"""Of the eight tiles: sums, row by row; and the factors."""
_BYTE = ir.IntType(8)
_ADDRESS = _BYTE.as_pointer()
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
    """See `sums`."""

    def code(context, b, signature, arguments):
        _tell(b, "ldtilecfg", _to(b, arguments[0]))
        return context.get_dummy_value()

    return types.void(_LONGS), code


@intrinsic
def release(typing_context):
    """See `sums`."""

    def code(context, b, signature, arguments):
        _tell(b, "tilerelease")
        return context.get_dummy_value()

    return types.void(), code


@intrinsic
def clear_sums(typing_context, out, row):
    """See `sums`."""

    def code(context, b, signature, arguments):
        for tile in _SUMS:
            _tell(b, "tilezero", _BYTE(tile))
        return context.get_dummy_value()

    return types.void(_LONGS, _LONGS), code


def _each_sum(b: Any, name: str, out: Any, row: Any) -> None:
    below = b.mul(row, LONG(ROWS))
    places = [out, b.add(out, LONG(LINE)), b.add(out, below), b.add(b.add(out, below), LONG(LINE))]
    for tile, place in zip(_SUMS, places, strict=True):
        _tell(b, name, _BYTE(tile), _to(b, place), row)


@intrinsic
def load_sums(typing_context, out, row):
    """See `sums`."""

    def code(context, b, signature, arguments):
        _each_sum(b, "tileloadd64", *arguments)
        return context.get_dummy_value()

    return types.void(_LONGS, _LONGS), code


@intrinsic
def store_sums(typing_context, out, row):
    """See `sums`."""

    def code(context, b, signature, arguments):
        _each_sum(b, "tilestored64", *arguments)
        return context.get_dummy_value()

    return types.void(_LONGS, _LONGS), code


@intrinsic
def add_products(
    typing_context, count, left, left_row, left_half, left_step, right, right_row, right_half, right_step, out, row
):
    """See `sums`. out, row: of no use here."""

    def code(context, b, signature, arguments):
        count, left, left_row, left_half, left_step, right, right_row, right_half, right_step, *_ = arguments

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

    return types.void(*[_LONGS] * 11), code
