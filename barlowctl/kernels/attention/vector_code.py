"""Vector code of attention: exponentials of rows of products, and their gradients, in powers of 2.

All is an address, except counts, of vectors of 16 numbers, and numbers of float32. s and d are float32, the rest
bfloat16. What is not a number stays so.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from barlowctl.kernels.float_vectors import FLOAT, LANES, VECTOR, WIDE, add_product, constant, load_some, store_some
from barlowctl.kernels.vector_code import LONG, at, call, features, load, repeat, store

LEAST = -126.0
"""A power of 2 below which a result is 0."""
_SERIES = [math.log(2) ** power / math.factorial(power) for power in range(7)]
"""Of 2^f, for f from -1/2 to 1/2: what is left out is a tenth of float32's precision."""
_NEAREST = [
    0.9999999250635262, 0.6931530732001692, 0.2401536170443786, 0.055826318053277646, 0.008989340090521965,
    0.0018775766751787312,
]  # fmt: skip
"""Of 2^f, for f from 0 to 1: the polynomial whose largest relative error, 7.5e-8, is the least."""
_WORD = ir.IntType(32)
_WORDS = ir.VectorType(_WORD, LANES)
_LONGS, _FLOATS = types.int64, types.float32


def _every(b: Any, number: Any) -> Any:
    """A vector of a number."""
    undefined = ir.Constant(VECTOR, ir.Undefined)
    one = b.insert_element(undefined, number, _WORD(0))
    return b.shuffle_vector(one, undefined, ir.Constant(_WORDS, [0] * LANES))


def _folded(b: Any, value: Any, pair: Callable[[Any, Any], Any]) -> Any:
    """All numbers of a vector, by halves."""
    distance = LANES // 2
    while distance:
        places = [(lane + distance) % LANES for lane in range(LANES)]
        value = pair(value, b.shuffle_vector(value, value, ir.Constant(_WORDS, places)))
        distance //= 2
    return b.extract_element(value, _WORD(0))


def _larger(b: Any, one: Any, other: Any) -> Any:
    """The larger one; of a number and none the number."""
    return b.select(b.fcmp_ordered(">", one, other), one, other)


def _polynomial(b: Any, factors: Sequence[float], x: Any) -> Any:
    value = constant(factors[-1])
    for factor in reversed(factors[:-1]):
        value = add_product(b, constant(factor), value, x)
    return value


def _power_of_whole(b: Any, exponent: Any) -> Any:
    """2^exponent, 0 below 2^`LEAST`."""
    whole = call(b, f"llvm.rint.v{LANES}f32", VECTOR, [exponent])
    rest, whole = b.fsub(exponent, whole), _larger(b, whole, constant(LEAST - 1))
    value = _polynomial(b, _SERIES, rest)
    bits = b.shl(b.add(b.fptosi(whole, _WORDS), ir.Constant(_WORDS, [127] * LANES)), ir.Constant(_WORDS, [23] * LANES))
    return b.select(
        b.fcmp_ordered("<", exponent, constant(LEAST)), constant(0.0), b.fmul(value, b.bitcast(bits, VECTOR))
    )


def _power_by_scaling(b: Any, exponent: Any) -> Any:
    """The same in half as many instructions, of which AVX-512 has one for what is above a whole number."""
    name, every, as_set = "llvm.x86.avx512.mask", ir.Constant(ir.IntType(LANES), -1), _WORD(4)
    rest = call(b, f"{name}.reduce.ps.512", VECTOR, [exponent, _WORD(1), constant(0.0), every, as_set])  # 1: floor
    value = _polynomial(b, _NEAREST, rest)
    counts = b.bitcast(b.fcmp_unordered(">=", exponent, constant(LEAST)), ir.IntType(LANES))
    return call(b, f"{name}.scalef.ps.512", VECTOR, [value, exponent, constant(0.0), counts, as_set])


_power = _power_by_scaling if LANES == 16 and features().get("avx512dq") else _power_of_whole


@intrinsic
def largest(typing_context, s, vectors):
    """The largest number of a row."""

    def code(context, b, signature, arguments):
        s, vectors = arguments

        def column(number, values):
            return [_larger(b, load(b, at(b, s, number, WIDE), VECTOR, 4), values[0])]

        (most,) = repeat(b, vectors, column, [constant(-math.inf)])
        return _folded(b, most, lambda one, other: _larger(b, one, other))

    return _FLOATS(_LONGS, _LONGS), code


@intrinsic
def write_powers(typing_context, s, vectors, scale, shift, p):
    """p = 2^(scale s - shift), of a row; their sum, before they are rounded."""

    def code(context, b, signature, arguments):
        s, vectors, scale, shift, p = arguments
        factor, less = _every(b, scale), _every(b, b.fneg(shift))

        def column(number, values):
            own = load(b, at(b, s, number, WIDE), VECTOR, 4)
            power = _power(b, add_product(b, less, own, factor))
            store_some(b, power, at(b, p, number, WIDE // 2), True)
            return [b.fadd(values[0], power)]

        (total,) = repeat(b, vectors, column, [constant(0.0)])
        return _folded(b, total, b.fadd)

    return _FLOATS(_LONGS, _LONGS, _FLOATS, _FLOATS, _LONGS), code


@intrinsic
def write_gradients(typing_context, s, d, vectors, scale, shift, mean, slope, p, g):
    """p = 2^(scale s - shift), and g = slope p (d - mean), of a row."""

    def code(context, b, signature, arguments):
        s, d, vectors, scale, shift, mean, slope, p, g = arguments
        factor, less, centre, steep = _every(b, scale), _every(b, b.fneg(shift)), _every(b, mean), _every(b, slope)

        def column(number, _):
            place = at(b, p, number, WIDE // 2), at(b, g, number, WIDE // 2)
            power = _power(b, add_product(b, less, load(b, at(b, s, number, WIDE), VECTOR, 4), factor))
            above = b.fsub(load(b, at(b, d, number, WIDE), VECTOR, 4), centre)
            store_some(b, power, place[0], True)
            store_some(b, b.fmul(b.fmul(above, steep), power), place[1], True)
            return []

        repeat(b, vectors, column, [])
        return context.get_dummy_value()

    return types.void(_LONGS, _LONGS, _LONGS, *[_FLOATS] * 4, _LONGS, _LONGS), code


@intrinsic
def product(typing_context, one, other, vectors):
    """The sum of the products of two rows."""

    def code(context, b, signature, arguments):
        one, other, vectors = arguments

        def column(number, values):
            place = b.mul(number, LONG(WIDE // 2))
            own = [load_some(b, b.add(start, place), True) for start in (one, other)]
            return [add_product(b, values[0], *own)]

        (total,) = repeat(b, vectors, column, [constant(0.0)])
        return _folded(b, total, b.fadd)

    return _FLOATS(_LONGS, _LONGS, _LONGS), code


@intrinsic
def write_multiple(typing_context, s, vectors, factor, out):
    """out = factor s, of a row."""

    def code(context, b, signature, arguments):
        s, vectors, factor, out = arguments
        every = _every(b, factor)

        def column(number, _):
            value = b.fmul(load(b, at(b, s, number, WIDE), VECTOR, 4), every)
            store_some(b, value, at(b, out, number, WIDE // 2), True)
            return []

        repeat(b, vectors, column, [])
        return context.get_dummy_value()

    return types.void(_LONGS, _LONGS, _FLOATS, _LONGS), code


@intrinsic
def hide(typing_context, s, first, end):
    """Numbers of a row from the first on, to the end, are as small as can be: they are no patches."""

    def code(context, b, signature, arguments):
        s, first, end = arguments
        with b.if_then(b.icmp_signed("<", first, end)):

            def column(number, _):
                store(b, ir.Constant(FLOAT, -math.inf), at(b, s, b.add(first, number), 4), 4)
                return []

            repeat(b, b.sub(end, first), column, [])
        return context.get_dummy_value()

    return types.void(_LONGS, _LONGS, _LONGS), code
