"""Functions of one number by a table, since bfloat16 has 65,536 numbers; their derivatives are looked up beside them.

What is looked up is exact, and of any function; a gradient takes one product.
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import carray, types
from numba.extending import intrinsic

from barlowctl.kernel_cache import cfunc, njit
from barlowctl.kernels import thread_tiles as tiles
from barlowctl.kernels.compiling import KERNEL
from barlowctl.kernels.number_formats import narrow, wide
from barlowctl.kernels.thread_tiles import TASK, take, words
from barlowctl.kernels.vector_code import features

NUMBERS = 2**16
"""Of bfloat16, by their bits."""
FIELDS = 8
NEXT, COUNT, PIECE, X, TABLE, Y, SLOPES, GRADIENT = range(FIELDS)
"""A task, int64: the next piece; numbers, and those of a piece; then addresses.

X, Y, GRADIENT: bfloat16, in `multiply_slopes` Y of the gradient of x. SLOPES: float16, derivatives at x.
TABLE: of each number of bfloat16, uint32: the function's value in bfloat16, and above it the derivative in float16.
"""
SHARED = {**tiles.SHARED, "fastmath": KERNEL["fastmath"]}
_LIKE = np.uint16(0)


def is_usable() -> bool:
    """Whether the processor that is compiled for widens float16 in vectors of 512 bits."""
    return bool(features().get("avx512f"))


@intrinsic
def widened(typing_context, value):
    """The float32 of a float16's bits."""

    def code(context, builder, signature, arguments):
        return builder.fpext(builder.bitcast(arguments[0], ir.HalfType()), ir.FloatType())

    return types.float32(types.uint16), code


@intrinsic
def _halves(typing_context, address):
    """To numbers of 16 bits at an address."""

    def code(context, builder, signature, arguments):
        return builder.inttoptr(arguments[0], ir.IntType(16).as_pointer())

    return types.CPointer(types.uint16)(types.int64), code


@njit(**KERNEL)
def look_up(source, table, target, slopes, count):
    """Values of a function of some numbers, and its derivatives."""
    x, entries = carray(_halves(source), (count,)), carray(words(table), (NUMBERS,))
    y, d = carray(_halves(target), (count,)), carray(_halves(slopes), (count,))
    for place in range(count):
        entry = entries[x[place]]
        y[place] = np.uint16(entry & np.uint32(0xFFFF))
        d[place] = np.uint16(entry >> np.uint32(16))


@njit(**KERNEL)
def multiply(gradient, slopes, target, count):
    """Gradients of what a function is of: those of its values times derivatives, rounded once."""
    g, d, of_x = (
        carray(_halves(gradient), (count,)),
        carray(_halves(slopes), (count,)),
        carray(_halves(target), (count,)),
    )
    for place in range(count):
        of_x[place] = narrow(wide(g[place]) * widened(d[place]), _LIKE)


@cfunc(TASK, **SHARED)
def look_up_pieces(address):
    """`look_up` of every number."""
    task = carray(address, (FIELDS,))
    while True:
        begin = take(address, NEXT) * task[PIECE]
        if begin >= task[COUNT]:
            return
        count = min(task[PIECE], task[COUNT] - begin)
        look_up(task[X] + 2 * begin, task[TABLE], task[Y] + 2 * begin, task[SLOPES] + 2 * begin, count)


@cfunc(TASK, **SHARED)
def multiply_pieces(address):
    """`multiply` of every number."""
    task = carray(address, (FIELDS,))
    while True:
        begin = take(address, NEXT) * task[PIECE]
        if begin >= task[COUNT]:
            return
        count = min(task[PIECE], task[COUNT] - begin)
        multiply(task[GRADIENT] + 2 * begin, task[SLOPES] + 2 * begin, task[Y] + 2 * begin, count)
