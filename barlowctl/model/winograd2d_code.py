"""Linear maps of squares of vectors, in LLVM's instructions: what transforms the tiles of Winograd's convolutions.

Vectors are of float32 and as wide as the processor's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numba
from llvmlite import binding, ir

from barlowctl.model.toom_cook import Matrix, transposed
from barlowctl.model.vector_code import LONG, at, call, load, store


def _shape() -> tuple[int, int]:
    """Numbers of a vector, and vectors that are summed next to each other, for the processor that is compiled for."""
    config: Any = numba.config
    features = config.CPU_FEATURES
    if features is None:
        has = dict(binding.get_host_cpu_features())
    else:
        has = {name[1:]: name.startswith("+") for name in features.split(",")}
    if has.get("avx512f"):
        return 16, 4
    if has.get("avx"):
        return 8, 2
    return 4, 4 if has.get("neon") else 2


LANES, COLUMNS = _shape()
WIDE = 4 * LANES
"""Bytes of a vector."""
FLOAT = ir.FloatType()
VECTOR = ir.VectorType(FLOAT, LANES)
_EACH = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)


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
    """The sum of factors times values, of which at least one is not 0 times."""
    total = None
    for factor, value in sorted(zip(factors, values, strict=True), key=lambda pair: abs(pair[0]) == 1):
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
            even, odd = (
                _combination(b, [factor * (equal == which) for factor, equal in zip(own, same, strict=True)], values)
                for which in (True, False)
            )
            results += [b.fadd(even, odd), b.fsub(even, odd)]
    return results


def squared(b: Any, matrix: Matrix, lines: Sequence[Sequence[Any]]) -> list[Any]:
    """matrix @ lines @ matrix.T, line by line."""
    columns = zip(*(linear(b, matrix, line) for line in lines), strict=True)
    return [value for line in zip(*(linear(b, matrix, column) for column in columns), strict=True) for value in line]


def load_square(b: Any, start: Any, part: Any, side: int) -> list[list[Any]]:
    """side x side vectors, line by line, of which the k-th is at start + k part."""
    values = [load(b, at(b, start, LONG(number), part), VECTOR, 4) for number in range(side * side)]
    return [values[first : first + side] for first in range(0, side * side, side)]


def store_all(b: Any, values: Sequence[Any], start: Any, part: Any) -> None:
    """The k-th at start + k part."""
    for number, value in enumerate(values):
        store(b, value, at(b, start, LONG(number), part), 4)


def window(b: Any, x: Any, elsewhere: Any, place: Any, shape: Any, size: Any, count: int) -> list[list[Any]]:
    """Addresses of `count` x `count` pixels of a map from `place` on, and `elsewhere` for those beyond it."""
    (top, left), (height, width), lines = place, shape, []
    columns = [b.add(left, LONG(number)) for number in range(count)]
    seen = [b.icmp_unsigned("<", column, width) for column in columns]  # a negative column is a large one
    offsets = [b.mul(column, size) for column in columns]
    for number in range(count):
        line = b.add(top, LONG(number))
        start, there = at(b, x, line, b.mul(width, size)), b.icmp_unsigned("<", line, height)
        pixels = zip(offsets, seen, strict=True)
        lines.append([b.select(b.and_(there, inside), b.add(start, offset), elsewhere) for offset, inside in pixels])
    return lines
