"""The vector code of Winograd's convolutions as functions of C, which its loops call by their addresses.

Each is compiled when it is first used, for a side m of tiles, and `bf16`: whether numbers of maps are bfloat16 (1) or
float32 (0). Code of several loops is compiled once so.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from barlowctl.kernel_cache import cfunc
from barlowctl.kernels.thread_tiles import SHARED
from barlowctl.kernels.vector_code import LONG
from barlowctl.kernels.winograd import vector_code as vector

_NUMBER = types.int64


@intrinsic
def run(typing_context, function, *numbers):
    """Call a function of C, by its address, with numbers."""

    def code(context, b, signature, arguments):
        values = cgutils.unpack_tuple(b, arguments[1])
        kind = ir.FunctionType(ir.VoidType(), [LONG] * len(values))
        b.call(b.inttoptr(arguments[0], kind.as_pointer()), values)
        return context.get_dummy_value()

    return types.void(_NUMBER, types.UniTuple(_NUMBER, len(numbers))), code


def addresses(m: int, bf16: int) -> dict[str, int]:
    """Of the functions for such tiles and maps, by the names of their vector code."""
    return {
        "transform_inputs": _inputs(m, bf16),
        "transform_gradients": _gradients(m, bf16),
        "transform_taps": _taps(m),
        "gather_taps": _gather(m),
        "write_tile": _write(m, bf16),
        "multiply": _multiply(),
    }


def _function(arguments: int) -> Any:
    return cfunc(types.void(*[_NUMBER] * arguments), **SHARED)


@cache
def _inputs(m: int, bf16: int) -> int:
    @_function(12)
    def transform(x, zeros, top, left, height, width, size, groups, vectors, out, part, stretch):
        vector.transform_inputs(m, bf16, x, zeros, top, left, height, width, size, groups, vectors, out, part, stretch)

    return transform.address


@cache
def _gradients(m: int, bf16: int) -> int:
    @_function(12)
    def transform(x, zeros, top, left, height, width, size, groups, vectors, out, part, stretch):
        vector.transform_gradients(
            m, bf16, x, zeros, top, left, height, width, size, groups, vectors, out, part, stretch
        )

    return transform.address


@cache
def _taps(m: int) -> int:
    @_function(5)
    def transform(w, tap, vectors, out, part):
        vector.transform_taps(m, w, tap, vectors, out, part)

    return transform.address


@cache
def _gather(m: int) -> int:
    @_function(5)
    def gather(products, part, vectors, out, tap):
        vector.gather_taps(m, products, part, vectors, out, tap)

    return gather.address


@cache
def _write(m: int, bf16: int) -> int:
    @_function(10)
    def write(products, part, vectors, y, top, left, height, width, size, beyond):
        vector.write_tile(m, bf16, products, part, vectors, y, top, left, height, width, size, beyond)

    return write.address


@cache
def _multiply() -> int:
    @_function(10)
    def multiply(rows, columns, x, x_row, x_step, w, count, out, out_row, adds):
        vector.multiply(rows, columns, x, x_row, x_step, w, count, out, out_row, adds)

    return multiply.address
