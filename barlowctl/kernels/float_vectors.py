"""Vectors of float32 as wide as the processor's, in LLVM's instructions; in memory also as bfloat16."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
_EACH = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)


def _words(count: int) -> tuple[Any, Callable[[int], Any]]:
    """The type of so many words of 32 bits, and a vector of one of them."""
    kind = ir.VectorType(ir.IntType(32), count)
    return kind, lambda value: ir.Constant(kind, [value] * count)


def load_some(b: Any, address: Any, bf16: bool, kind: Any = VECTOR) -> Any:
    """A vector of float32 of a kind, of numbers at an address, which are bfloat16 there or float32."""
    if not bf16:
        return load(b, address, kind, 4)
    words, every = _words(kind.count)
    return b.bitcast(b.shl(b.zext(load(b, address, ir.VectorType(_HALF, kind.count)), words), every(16)), kind)


def store_some(b: Any, value: Any, address: Any, bf16: bool) -> None:
    """Put a vector there, rounded to the nearest bfloat16 or as it is."""
    store(b, narrowed(b, value) if bf16 else value, address, 2 if bf16 else 4)


def narrowed(b: Any, value: Any) -> Any:
    """The bits of a vector's numbers in bfloat16."""
    count = value.type.count
    halves, (words, every) = ir.VectorType(_HALF, count), _words(count)
    if ROUNDS and count == 16:
        return call(b, "llvm.x86.avx512bf16.cvtneps2bf16.512", halves, [value])
    bits = b.bitcast(value, words)
    rounded = b.lshr(b.add(b.add(bits, every(0x7FFF)), b.and_(b.lshr(bits, every(16)), every(1))), every(16))
    return b.trunc(b.select(b.fcmp_unordered("uno", value, value), every(0x7FC0), rounded), halves)


def constant(value: float, kind: Any = VECTOR) -> Any:
    """A vector of that number."""
    return ir.Constant(kind, [value] * kind.count)


def repeated(b: Any, address: Any) -> Any:
    """A vector of the number at an address."""
    undefined = ir.Constant(VECTOR, ir.Undefined)
    number = b.insert_element(undefined, load(b, address, FLOAT, 4), ir.IntType(32)(0))
    return b.shuffle_vector(number, undefined, _EACH)


def add_product(b: Any, total: Any, one: Any, other: Any) -> Any:
    """total + one other, in one instruction where the processor has it."""
    return call(b, f"llvm.fmuladd.v{total.type.count}f32", total.type, [one, other, total])


def add_products_of_pairs(b: Any, total: Any, one: Any, other: Any) -> Any:
    """total + one other, of which each word is a pair of numbers of bfloat16 whose products are added.

    Where the processor has no instruction for it, in two steps, which is slow: so that it is right on every processor.
    """
    kind = total.type
    if ROUNDS and kind.count == 16:
        return call(b, "llvm.x86.avx512bf16.dpbf16ps.512", kind, [total, one, other])
    _, every = _words(kind.count)
    for first in (True, False):
        pair = (b.shl(word, every(16)) if first else b.and_(word, every(0xFFFF0000)) for word in (one, other))
        total = add_product(b, total, *(b.bitcast(word, kind) for word in pair))
    return total


def load_all(b: Any, start: Any, part: Any, count: int) -> list[Any]:
    """Vectors of float32 of which the k-th is at start + k part."""
    return [load(b, at(b, start, LONG(number), part), VECTOR, 4) for number in range(count)]


def store_all(b: Any, values: Sequence[Any], start: Any, part: Any) -> None:
    """The k-th at start + k part."""
    for number, value in enumerate(values):
        store(b, value, at(b, start, LONG(number), part), 4)
