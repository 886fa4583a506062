"""Linear maps of squares of vectors, in LLVM's instructions: what transforms the tiles of Winograd's convolutions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir
from numba.core import cgutils

from barlowctl.kernels.float_vectors import VECTOR, WIDE, add_product, constant
from barlowctl.kernels.vector_code import LONG, at, load, repeat, store
from barlowctl.kernels.winograd.toom_cook import Matrix, transposed

AT_ONCE = 2
"""Vectors that are transformed together: of bfloat16 those of a line of the processor's cache."""


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
