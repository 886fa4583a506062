"""Vectors of float32 as wide as the processor's, in LLVM's instructions; in memory also as bfloat16."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llvmlite import ir

from barlowctl.kernels.vector_code import LONG, at, call, features, load, store


def _shape() -> tuple[int, int, bool]:
    """Numbers of a vector, vectors that are summed next to each other, for the processor that is compiled for.

    And whether it rounds to bfloat16 in one instruction.
    """
    has = features()
    if has.get("avx512f"):
        return 16, 4, bool(has.get("avx512bf16"))
    if has.get("avx"):
        return 8, 2, False
    return 4, 4 if has.get("neon") else 2, False


LANES, COLUMNS, ROUNDS = _shape()
WIDE = 4 * LANES
"""Bytes of a vector."""
FLOAT, _HALF = ir.FloatType(), ir.IntType(16)
VECTOR = ir.VectorType(FLOAT, LANES)
_HALVES, _WORDS = ir.VectorType(_HALF, LANES), ir.VectorType(ir.IntType(32), LANES)
_EACH, _HIGH, _ODD, _NEAREST, _QUIET = (ir.Constant(_WORDS, [value] * LANES) for value in (0, 16, 1, 0x7FFF, 0x7FC0))


def load_some(b: Any, address: Any, bf16: bool) -> Any:
    """A vector of LANES numbers at an address, which are bfloat16 there or float32."""
    if not bf16:
        return load(b, address, VECTOR, 4)
    return b.bitcast(b.shl(b.zext(load(b, address, _HALVES), _WORDS), _HIGH), VECTOR)


def store_some(b: Any, value: Any, address: Any, bf16: bool) -> None:
    """Put a vector there, rounded to the nearest bfloat16 or as it is."""
    store(b, narrowed(b, value) if bf16 else value, address, 2 if bf16 else 4)


def narrowed(b: Any, value: Any) -> Any:
    """The bits of a vector's numbers in bfloat16."""
    if ROUNDS and LANES == 16:
        return call(b, "llvm.x86.avx512bf16.cvtneps2bf16.512", _HALVES, [value])
    bits = b.bitcast(value, _WORDS)
    rounded = b.lshr(b.add(b.add(bits, _NEAREST), b.and_(b.lshr(bits, _HIGH), _ODD)), _HIGH)
    return b.trunc(b.select(b.fcmp_unordered("uno", value, value), _QUIET, rounded), _HALVES)


def constant(value: float) -> Any:
    """A vector of that number."""
    return ir.Constant(VECTOR, [value] * LANES)


def repeated(b: Any, address: Any) -> Any:
    """A vector of the number at an address."""
    undefined = ir.Constant(VECTOR, ir.Undefined)
    number = b.insert_element(undefined, load(b, address, FLOAT, 4), ir.IntType(32)(0))
    return b.shuffle_vector(number, undefined, _EACH)


def add_product(b: Any, total: Any, one: Any, other: Any) -> Any:
    """total + one other, in one instruction where the processor has it."""
    return call(b, f"llvm.fmuladd.v{LANES}f32", VECTOR, [one, other, total])


def load_all(b: Any, start: Any, part: Any, count: int) -> list[Any]:
    """Vectors of float32 of which the k-th is at start + k part."""
    return [load(b, at(b, start, LONG(number), part), VECTOR, 4) for number in range(count)]


def store_all(b: Any, values: Sequence[Any], start: Any, part: Any) -> None:
    """The k-th at start + k part."""
    for number, value in enumerate(values):
        store(b, value, at(b, start, LONG(number), part), 4)
