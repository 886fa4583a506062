"""The same products as `amx` has, by vectors of bfloat16 (AVX-512's `vdpbf16ps`), in LLVM's instructions.

There are no tiles: sums of 8 rows and 32 columns are in registers while factors are multiplied, and else in memory. A
number on the left is repeated from memory, so that it may lie anywhere, and results may be written rounded at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from barlowctl.kernels.float_vectors import add_products_of_pairs, constant, load_some, store_some
from barlowctl.kernels.tiles.memory import LINE, ROWS, SIDE, VECTOR, WORDS
from barlowctl.kernels.vector_code import LONG, at, load, prefetch, repeat, store

AT_ONCE = 8
"""Rows whose sums are in registers, in two vectors each."""
PAIRS = 4
"""Pairs of numbers that are multiplied before it is asked whether there are more; of a factor 16."""
PART = 2 * PAIRS
"""Numbers of a row that those are of."""
PARTS = ROWS // PAIRS
"""Of a factor."""
FETCHED = SIDE // AT_ONCE
"""Lines of each stream that are fetched with a part (see `_Stream`): one for each 8 rows."""
APART = 3
"""Rows that are addressed from the first of them: by a number of the processor's instructions, 0 to 2 times."""
_WORD = ir.IntType(32)
_LONGS = types.int64
_PAIR, _LINES, _EIGHTS = LONG(4), LONG(2 * LINE), LONG(SIDE // AT_ONCE)
"""Bytes of a pair; and of 32 of them, a row of a factor on the right; and how many times 8 rows are 32."""
Places = Sequence[Any]
_Write = Callable[[Any, Any], None]


def _repeated(b: Any, address: Any) -> Any:
    """A vector of the pair of numbers at an address."""
    undefined = ir.Constant(WORDS, ir.Undefined)
    pair = b.insert_element(undefined, load(b, address, _WORD, 4), _WORD(0))
    return b.shuffle_vector(pair, undefined, ir.Constant(WORDS, [0] * ROWS))


class _Stream(NamedTuple):
    """Memory that is fetched into the cache while factors are multiplied, a line at a time.

    place: of the first line. step: to the next one, which is fetched with the next part. written: it is written to.
    """

    place: Any
    step: Any
    written: bool = False


def _for_rows(b: Any, eights: Any, streams: Sequence[_Stream], code: Callable[[Any, Places], Places]) -> None:
    """`code(first, places)` for the first of each of 8 rows, and where streams are; it gives where they are then."""

    def rows(number: Any, places: Places) -> list[Any]:
        return list(code(b.mul(number, LONG(AT_ONCE)), places))

    repeat(b, eights, rows, [stream.place for stream in streams])


def _lefts(b: Any, left: Any, row: Any) -> list[Any]:
    """Of every third of 8 rows, `row` apart, where it lies."""
    return [at(b, left, LONG(below), row) for below in range(0, AT_ONCE, APART)]


def _multiplied(
    b: Any, parts: Any, factors: tuple[Places, Any, Any, Any], streams: Sequence[_Stream], places: Places, sums: Places
) -> tuple[list[Any], list[Any]]:
    """Sums, two vectors of each of 8 rows, and the products of some parts, which lie after one another.

    factors: where those on the left lie (`_lefts`), bytes from one row of them to the next, and from one pair of
    numbers to the next; where those on the right lie. places: where the streams are.

    Returns: the sums, and where the streams are then.
    """
    lefts, row, pair, right = factors
    twice, last, first_sum = b.mul(row, LONG(2)), len(lefts), -2 * AT_ONCE

    def part(_: Any, values: Places) -> list[Any]:
        lefts, right, places = values[:last], values[last], values[last + 1 : first_sum]
        sums = list(values[first_sum:])
        for stream, place in zip(streams, places, strict=True):
            prefetch(b, place, stream.written)
        for number in range(PAIRS):
            line = at(b, right, LONG(number), _LINES)
            columns = [load(b, b.add(line, LONG(half * LINE)), WORDS, 4) for half in range(2)]
            for below in range(AT_ONCE):
                start = lefts[below // APART]
                place = (start, b.add(start, row), b.add(start, twice))[below % APART]
                numbers = _repeated(b, at(b, place, LONG(number), pair))
                for half in range(2):
                    own = 2 * below + half
                    sums[own] = add_products_of_pairs(b, sums[own], numbers, columns[half])
        moved = [b.add(place, stream.step) for stream, place in zip(streams, places, strict=True)]
        starts = [at(b, start, LONG(PAIRS), pair) for start in lefts]
        return [*starts, at(b, right, LONG(PAIRS), _LINES), *moved, *sums]

    values = repeat(b, parts, part, [*lefts, right, *places, *sums])
    return values[first_sum:], values[last + 1 : first_sum]


def _add(
    b: Any,
    count: Any,
    factors: tuple[Any, Any, Any, Any],
    steps: Places,
    given: Places,
    out: Places,
    streams: Sequence[_Stream] = (),
) -> None:
    """out = given, and the products of `count` factors: sums, float32, of 32 rows.

    factors: as of `_multiplied`, of the first of 32 rows. steps: from one factor on the left, and on the right, to the
    next. given, out: where the sums lie, and from one row of them to the next.
    """
    left, row, pair, right = factors

    def rows(first: Any, places: Places) -> Places:
        sources, targets = (_vectors_at(b, at(b, start, first, step), step) for start, step in (given, out))
        lefts = _lefts(b, at(b, left, first, row), row)
        last, first_sum = len(lefts), -2 * AT_ONCE

        def factor(_: Any, values: Places) -> list[Any]:
            lefts, right, places = values[:last], values[last], values[last + 1 : first_sum]
            own = lefts, row, pair, right
            sums, places = _multiplied(b, LONG(PARTS), own, streams, places, values[first_sum:])
            return [*(b.add(start, steps[0]) for start in lefts), b.add(right, steps[1]), *places, *sums]

        loaded = [load(b, place, VECTOR, 4) for place in sources]
        values = repeat(b, count, factor, [*lefts, right, *places, *loaded])
        for place, value in zip(targets, values[first_sum:], strict=True):
            store(b, value, place, 4)
        return values[last + 1 : first_sum]

    _for_rows(b, _EIGHTS, streams, rows)


def _vectors_at(b: Any, start: Any, row: Any) -> list[Any]:
    """Where two vectors of each of 8 rows lie."""
    own = [at(b, start, LONG(below), row) for below in range(AT_ONCE)]
    return [b.add(place, LONG(half * LINE)) for place in own for half in range(2)]


@intrinsic
def configure(typing_context, address):
    """There is nothing to configure."""

    def code(context, b, signature, arguments):
        return context.get_dummy_value()

    return types.void(_LONGS), code


@intrinsic
def release(typing_context):
    """Nor to release."""

    def code(context, b, signature, arguments):
        return context.get_dummy_value()

    return types.void(), code


@intrinsic
def clear_sums(typing_context, out, row):
    """See `sums`."""

    def code(context, b, signature, arguments):
        for number in range(SIDE):
            place = at(b, arguments[0], LONG(number), arguments[1])
            for half in range(2):
                store(b, constant(0.0, VECTOR), b.add(place, LONG(half * LINE)), 4)
        return context.get_dummy_value()

    return types.void(_LONGS, _LONGS), code


@intrinsic
def load_sums(typing_context, out, row):
    """They are there."""

    def code(context, b, signature, arguments):
        return context.get_dummy_value()

    return types.void(_LONGS, _LONGS), code


@intrinsic
def store_sums(typing_context, out, row):
    """They are there."""

    def code(context, b, signature, arguments):
        return context.get_dummy_value()

    return types.void(_LONGS, _LONGS), code


@intrinsic
def add_products(
    typing_context, count, left, left_row, left_half, left_step, right, right_row, right_half, right_step, out, row
):
    """See `sums`. left_half, right_row, right_half: 16 times left_row, and two lines and one."""

    def code(context, b, signature, arguments):
        count, left, left_row, _, left_step, right, _, _, right_step, out, row = arguments
        factors = left, left_row, _PAIR, right
        _add(b, count, factors, (left_step, right_step), (out, row), (out, row))
        return context.get_dummy_value()

    return types.void(*[_LONGS] * 11), code


@intrinsic
def add_paired(typing_context, count, left, right, step, given, given_row, out, row, x, x_step, g, g_step):
    """out = given, sums that lie elsewhere, and the products of factors that are `step` apart.

    Both factors lie as those on the right do: the left one is the transpose. A given row of 0 bytes is that of all.
    x, g: what is fetched into the cache meanwhile, `FETCHED` lines for each part, which are so many steps apart.
    """

    def code(context, b, signature, arguments):
        count, left, right, step, given, given_row, out, row, x, x_step, g, g_step = arguments
        factors, streams = (left, _PAIR, _LINES, right), (_Stream(x, x_step), _Stream(g, g_step))
        _add(b, count, factors, (step, step), (given, given_row), (out, row), streams)
        return context.get_dummy_value()

    return types.void(*[_LONGS] * 12), code


def _fresh(b: Any, arguments: Places, write: _Write, line: int, eights: Any, streams: Sequence[_Stream] = ()) -> None:
    """Products of 32 rows, of 8 numbers for each part, and 32 columns. write: a vector of them, `line` bytes."""
    parts, left, left_row, right, begin, out, row = arguments

    def rows(first: Any, places: Places) -> Places:
        lefts, target = _lefts(b, at(b, left, first, left_row), left_row), at(b, out, first, row)
        given = [load(b, b.add(begin, LONG(half * LINE)), VECTOR, 4) for half in range(2)] * AT_ONCE
        sums, places = _multiplied(b, parts, (lefts, left_row, _PAIR, right), streams, places, given)
        for number, value in enumerate(sums):
            write(value, b.add(at(b, target, LONG(number // 2), row), LONG(number % 2 * line)))
        return places

    _for_rows(b, eights, streams, rows)


@intrinsic
def multiply(typing_context, parts, left, left_row, right, begin, out, row, eights):
    """float32 `out`, whose rows are `row` apart: products of `eights` times 8 rows of so many parts and 32 columns.

    A part is 8 numbers. Factors on the right lie after one another. begin: 32 numbers of float32 that are added to
    each row.
    """

    def code(context, b, signature, arguments):
        *given, eights = arguments
        _fresh(b, given, lambda value, place: store(b, value, place, 4), LINE, eights)
        return context.get_dummy_value()

    return types.void(*[_LONGS] * 8), code


@intrinsic
def multiply_rounded(typing_context, parts, left, left_row, right, begin, out, row, x, x_step, y, y_step):
    """The same in bfloat16, rounded to the nearest.

    x, y: what is fetched into the cache meanwhile, y since it is written to: as in `add_paired`.
    """

    def code(context, b, signature, arguments):
        def write(value, place):
            store_some(b, value, place, True)

        _fresh(b, arguments[:7], write, LINE // 2, _EIGHTS, _read_and_written(arguments[7:]))
        return context.get_dummy_value()

    return types.void(*[_LONGS] * 11), code


@intrinsic
def multiply_added(typing_context, parts, left, left_row, right, begin, out, row, x, x_step, y, y_step):
    """The same, added to what is there before it is rounded."""

    def code(context, b, signature, arguments):
        def write(value, place):
            store_some(b, b.fadd(value, load_some(b, place, True, VECTOR)), place, True)

        _fresh(b, arguments[:7], write, LINE // 2, _EIGHTS, _read_and_written(arguments[7:]))
        return context.get_dummy_value()

    return types.void(*[_LONGS] * 11), code


def _read_and_written(arguments: Places) -> list[_Stream]:
    x, x_step, y, y_step = arguments
    return [_Stream(x, x_step), _Stream(y, y_step, written=True)]
