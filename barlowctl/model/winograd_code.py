"""Linear maps of squares of vectors, in LLVM's instructions: what transforms the tiles of Winograd's convolutions.

Vectors are of float32 and as wide as the processor's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir
from numba.core import cgutils

from barlowctl.model.toom_cook import Matrix, transposed
from barlowctl.model.vector_code import LONG, at, call, features, load, repeat, store


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
AT_ONCE = 2
"""Vectors that are transformed together: of bfloat16 those of a line of the processor's cache."""
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


def _combination(b: Any, factors: Sequence[float], values: Sequence[Any]) -> Any:
    """The sum of factors times values, of which at least one is not 0 times; it begins with one that is 1 times."""
    total = None
    for factor, value in sorted(zip(factors, values, strict=True), key=lambda pair: pair[0] != 1):
        if factor == 0:
            continue
        if total is None:
            total = value if factor == 1 else b.fmul(value, constant(factor))
        elif abs(factor) == 1:
            total = b.fadd(total, value) if factor == 1 else b.fsub(total, value)
        else:
            total = add_product(b, total, value, constant(factor))
    return total


def _equal(one: Sequence[float], other: Sequence[float]) -> list[bool] | None:
    """Where two rows are equal, if they are of opposite points: some numbers equal, and others apart from the sign."""
    same = [a == b for a, b in zip(one, other, strict=True)]
    opposite = [a == -b for a, b in zip(one, other, strict=True)]
    pairs = all(a or b for a, b in zip(same, opposite, strict=True))
    return same if pairs and not all(same) and not all(opposite) else None


def linear(b: Any, matrix: Matrix, values: Sequence[Any]) -> list[Any]:
    """matrix @ values. What two columns, or two rows, of opposite points have in common is computed once."""
    columns, rows, terms = transposed(matrix), [list[float]() for _ in matrix], list[Any]()
    while (number := len(terms)) < len(columns):
        own = columns[number]
        same = _equal(own, columns[number + 1]) if number + 1 < len(columns) else None
        if same is None:
            terms.append(values[number])
            for row, factor in zip(rows, own, strict=True):
                row.append(factor)
        else:
            one, other = values[number : number + 2]
            terms += [b.fadd(one, other), b.fsub(one, other)]
            for row, factor, equal in zip(rows, own, same, strict=True):
                row += [factor, 0.0] if equal else [0.0, factor]
    return _by_rows(b, rows, terms)


def _by_rows(b: Any, rows: Sequence[Sequence[float]], values: Sequence[Any]) -> list[Any]:
    results: list[Any] = []
    while len(results) < len(rows):
        own = rows[len(results)]
        same = _equal(own, rows[len(results) + 1]) if len(results) + 1 < len(rows) else None
        if same is None:
            results.append(_combination(b, own, values))
        else:
            even = _combination(b, _where(own, same), values)
            odd = _where(own, [not equal for equal in same])
            scale = next(factor for factor in reversed(odd) if factor)
            rest = _combination(b, [factor / scale for factor in odd], values)
            if abs(scale) == 1:
                sums = b.fadd(even, rest), b.fsub(even, rest)
                results += sums if scale == 1 else reversed(sums)
            else:
                results += [add_product(b, even, rest, constant(sign * scale)) for sign in (1, -1)]
    return results


def _where(factors: Sequence[float], chosen: Sequence[bool]) -> list[float]:
    return [factor if own else 0.0 for factor, own in zip(factors, chosen, strict=True)]


def twice(
    b: Any,
    matrix: Matrix,
    vectors: Any,
    lines: Callable[[Any], Callable[[Any], Sequence[Any]]],
    columns: Callable[[Any], Callable[[Any, Sequence[Any]], None]],
) -> None:
    """matrix @ square @ matrix.T for squares of some vectors, which lie one after another.

    lines: by a line's number what gives its values of a vector, by that one's number. columns: by the number of a
    column of results what takes them, from the first line to the last, for a vector.
    """
    side, size = len(matrix[0]), len(matrix)
    room = b.ptrtoint(cgutils.alloca_once(b, ir.ArrayType(VECTOR, side * size * AT_ONCE)), LONG)

    def some(index: Any, _: Any) -> list[Any]:
        first = b.mul(index, LONG(AT_ONCE))
        left = b.sub(vectors, first)
        count = b.select(b.icmp_signed("<", left, LONG(AT_ONCE)), left, LONG(AT_ONCE))

        def line(number: Any, _: Any) -> list[Any]:
            values_of = lines(number)
            start = at(b, room, number, size * WIDE)

            def transform(index: Any, _: Any) -> list[Any]:
                place = at(b, start, index, side * size * WIDE)
                for column, value in enumerate(linear(b, matrix, values_of(b.add(first, index)))):
                    store(b, value, b.add(place, LONG(column * WIDE)), 4)
                return []

            repeat(b, count, transform, [])
            return []

        def column(number: Any, _: Any) -> list[Any]:
            take = columns(number)
            start = at(b, room, number, WIDE)

            def transform(index: Any, _: Any) -> list[Any]:
                place = at(b, start, index, side * size * WIDE)
                values = [load(b, b.add(place, LONG(line * size * WIDE)), VECTOR, 4) for line in range(side)]
                take(b.add(first, index), linear(b, matrix, values))
                return []

            repeat(b, count, transform, [])
            return []

        repeat(b, LONG(side), line, [])
        repeat(b, LONG(size), column, [])
        return []

    repeat(b, b.sdiv(b.add(vectors, LONG(AT_ONCE - 1)), LONG(AT_ONCE)), some, [])


def pixels(b: Any, x: Any, elsewhere: Any, place: Any, steps: Any, size: Any, bounds: Any, count: int) -> list[Any]:
    """Addresses of `count` pixels in a row from `place`, (line, column), on; `elsewhere` for those beyond `bounds`.

    steps: from a pixel to the next, (0, 1) or (1, 0). size: of a line and of a pixel, in bytes.
    """
    out = []
    for number in range(count):
        there = [b.add(start, LONG(number)) if step else start for start, step in zip(place, steps, strict=True)]
        line, column = (b.icmp_unsigned("<", at_, bound) for at_, bound in zip(there, bounds, strict=True))
        address = at(b, at(b, x, there[0], size[0]), there[1], size[1])
        out.append(b.select(b.and_(line, column), address, elsewhere))
    return out


def load_all(b: Any, start: Any, part: Any, count: int) -> list[Any]:
    """Vectors of float32 of which the k-th is at start + k part."""
    return [load(b, at(b, start, LONG(number), part), VECTOR, 4) for number in range(count)]


def store_all(b: Any, values: Sequence[Any], start: Any, part: Any) -> None:
    """The k-th at start + k part."""
    for number, value in enumerate(values):
        store(b, value, at(b, start, LONG(number), part), 4)


def prefetch(b: Any, address: Any, written: bool = False) -> None:
    """Have the processor fetch what is there into its cache; written: as its own, since it will be written to."""
    pointer = b.inttoptr(address, ir.IntType(8).as_pointer())
    word = ir.IntType(32)
    kind = ir.FunctionType(ir.VoidType(), [pointer.type, word, word, word])
    function = cgutils.get_or_insert_function(b.module, kind, "llvm.prefetch.p0i8")
    b.call(function, [pointer, word(int(written)), word(3), word(1)])
