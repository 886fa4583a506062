"""Vector code of depthwise convolutions' gradients: products of pixels, channel by channel, summed in registers.

All is an address or a size, in bytes, except what is counted. Maps, taps and sums are float32; results are bfloat16
where it says `bf16`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numba import types
from numba.extending import intrinsic

from barlowctl.kernels.float_vectors import VECTOR, WIDE, add_product, constant, store_some
from barlowctl.kernels.vector_code import LONG, at, for_each, load, repeat, store

MOST_PIXELS = 8
"""Of a row of results that are summed next to each other: each number of a tap is read once for them."""
MOST_TAPS = 8
"""Of a row of a kernel whose gradients are."""
_LONGS = types.int64


def _for_taps(b: Any, arguments: Sequence[Any], pixels: int) -> list[Any]:
    """The sums of so many pixels, one vector of each."""
    rows, columns, x, x_row, x_pixel, w, w_tap = arguments
    starts = [at(b, x, LONG(pixel), x_pixel) for pixel in range(pixels)]
    x_back = b.sub(x_row, b.mul(columns, x_pixel))

    def row(_: Any, values: list[Any]) -> list[Any]:
        def tap(_: Any, values: list[Any]) -> list[Any]:
            offset, w, *sums = values
            weight = load(b, w, VECTOR, 4)
            seen = [load(b, b.add(start, offset), VECTOR, 4) for start in starts]
            sums = [add_product(b, total, number, weight) for total, number in zip(sums, seen, strict=True)]
            return [b.add(offset, x_pixel), b.add(w, w_tap), *sums]

        offset, w, *sums = repeat(b, columns, tap, values)
        return [b.add(offset, x_back), w, *sums]

    return repeat(b, rows, row, [LONG(0), w, *[constant(0.0)] * pixels])[2:]


def _summing(bf16: bool) -> Any:
    """`sum_taps` with results in bfloat16, or in float32."""

    @intrinsic
    def sum_taps(typing_context, pixels, vectors, rows, columns, x, x_row, x_pixel, w, w_tap, out, out_pixel):
        """Results of 1, 2, 4 or 8 pixels of a row, of `vectors` vectors of channels.

        Args:
            rows, columns: of the kernel. x: what its first tap sees; then from a row, and a pixel, to the next.
            w: the first tap's numbers; then to the next one's. out: results, and to the next one.
        """
        step = WIDE // 2 if bf16 else WIDE

        def code(context, b, signature, arguments):
            pixels, vectors, rows, columns, x, x_row, x_pixel, w, w_tap, out, out_pixel = arguments

            def block(count: int) -> None:
                def vector(number: Any, _: Any) -> list[Any]:
                    here = at(b, x, number, WIDE), x_row, x_pixel, at(b, w, number, WIDE), w_tap
                    for pixel, value in enumerate(_for_taps(b, (rows, columns, *here), count)):
                        place = at(b, b.add(out, b.mul(number, LONG(step))), LONG(pixel), out_pixel)
                        store_some(b, value, place, bf16)
                    return []

                repeat(b, vectors, vector, [])

            for_each(b, pixels, (1, 2, 4, MOST_PIXELS), block)
            return context.get_dummy_value()

        return types.void(*[_LONGS] * 11), code

    return sum_taps


sum_to_bf16, sum_to_float32 = _summing(True), _summing(False)


@intrinsic
def correlate(typing_context, taps, vectors, rows, columns, x, x_row, x_pixel, x_tap, g, g_row, g_pixel, sums, tap):
    """Add to sums, of 1 to 8 taps of a row of a kernel: what each sees times the gradients of all results.

    Args:
        rows, columns: of results. x: what the first tap sees of the first one; then of the next row's, the next one's,
        and what the next tap sees. g: gradients. sums: the first tap's; then the next one's.
    """

    def code(context, b, signature, arguments):
        taps, vectors, rows, columns, x, x_row, x_pixel, x_tap, g, g_row, g_pixel, sums, tap = arguments
        x_back, g_back = b.sub(x_row, b.mul(columns, x_pixel)), b.sub(g_row, b.mul(columns, g_pixel))

        def block(count: int) -> None:
            def vector(number: Any, _: Any) -> list[Any]:
                own = [b.add(at(b, sums, number, WIDE), b.mul(LONG(each), tap)) for each in range(count)]

                def row(_: Any, values: list[Any]) -> list[Any]:
                    def pixel(_: Any, values: list[Any]) -> list[Any]:
                        x, g, *totals = values
                        gradient = load(b, g, VECTOR, 4)
                        seen = [load(b, at(b, x, LONG(each), x_tap), VECTOR, 4) for each in range(count)]
                        totals = [add_product(b, own, value, gradient) for own, value in zip(totals, seen, strict=True)]
                        return [b.add(x, x_pixel), b.add(g, g_pixel), *totals]

                    x, g, *totals = repeat(b, columns, pixel, values)
                    return [b.add(x, x_back), b.add(g, g_back), *totals]

                first = at(b, x, number, WIDE), at(b, g, number, WIDE)
                values = repeat(b, rows, row, [*first, *(load(b, place, VECTOR, 4) for place in own)])
                for place, value in zip(own, values[2:], strict=True):
                    store(b, value, place, 4)
                return []

            repeat(b, vectors, vector, [])

        for_each(b, taps, range(1, MOST_TAPS + 1), block)
        return context.get_dummy_value()

    return types.void(*[_LONGS] * 13), code
