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
from barlowctl.kernels.vector_code import at, call, features, load, repeat, store

NUMBERS = 2**16
"""Of bfloat16, by their bits."""
FIELDS = 8
NEXT, COUNT, PIECE, X, TABLE, Y, SLOPES, GRADIENT = range(FIELDS)
"""A task, int64: the next piece; numbers, and those of a piece; then addresses.

X, Y, GRADIENT: bfloat16, in `multiply_slopes` Y of the gradient of x. SLOPES: float16, derivatives at x.
TABLE: of each number of bfloat16, uint32: the function's value in bfloat16, and above it the derivative in float16.
"""
SHARED = {**tiles.SHARED, "fastmath": KERNEL["fastmath"]}
AT_ONCE = 16
"""Numbers whose entries are gathered at a time."""
_LIKE = np.uint16(0)
_BYTE, _WORD = ir.IntType(8), ir.IntType(32)
_NUMBERS, _ENTRIES, _LANES = (ir.VectorType(kind, AT_ONCE) for kind in (ir.IntType(16), _WORD, ir.IntType(1)))
GATHERS = bool(features().get("avx512f"))
"""Whether the processor that is compiled for has vectors of 512 bits, which gather so many words and widen float16."""


def is_usable() -> bool:
    """Whether looking up is faster there than torch's functions: see `GATHERS`."""
    return GATHERS


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


@intrinsic
def gather(typing_context, source, table, target, slopes, vectors):
    """Values of a function, and its derivatives: of `vectors` times 16 numbers, 1 or more; all else is an address."""

    def code(context, b, signature, arguments):
        source, table, target, slopes, vectors = arguments
        none, every = ir.Constant(_ENTRIES, [0] * AT_ONCE), ir.Constant(_LANES, [1] * AT_ONCE)
        start, above = b.inttoptr(table, _BYTE.as_pointer()), ir.Constant(_ENTRIES, [16] * AT_ONCE)

        def vector(number, _):
            x = b.zext(load(b, at(b, source, number, 2 * AT_ONCE), _NUMBERS), _ENTRIES)
            entries = call(b, "llvm.x86.avx512.mask.gather.dpi.512", _ENTRIES, [none, start, x, every, _WORD(4)])
            store(b, b.trunc(entries, _NUMBERS), at(b, target, number, 2 * AT_ONCE))
            store(b, b.trunc(b.lshr(entries, above), _NUMBERS), at(b, slopes, number, 2 * AT_ONCE))
            return []

        repeat(b, vectors, vector, [])
        return context.get_dummy_value()

    return types.void(*[types.int64] * 5), code


@njit(**KERNEL)
def look_up_singly(source, table, target, slopes, count):
    """Values of a function of some numbers, and its derivatives."""
    x, entries = carray(_halves(source), (count,)), carray(words(table), (NUMBERS,))
    y, d = carray(_halves(target), (count,)), carray(_halves(slopes), (count,))
    for place in range(count):
        entry = entries[x[place]]
        y[place] = np.uint16(entry & np.uint32(0xFFFF))
        d[place] = np.uint16(entry >> np.uint32(16))


@njit(**KERNEL)
def look_up_gathered(source, table, target, slopes, count):
    """The same, most of them 16 at a time."""
    vectors = count // AT_ONCE
    if vectors > 0:
        gather(source, table, target, slopes, vectors)
    done = 2 * AT_ONCE * vectors
    look_up_singly(source + done, table, target + done, slopes + done, count - AT_ONCE * vectors)


look_up = look_up_gathered if GATHERS else look_up_singly


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
