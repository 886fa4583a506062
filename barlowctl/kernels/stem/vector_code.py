"""Vector code of maximum pooling and of its gradient, for windows of 3 x 3 with a stride of 2, and their pixels.

All is an address or a size, in bytes, except counts. Places in windows are uint8; maps, results and their gradients are
bfloat16 or float32 (`like`), the rest float32.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from barlowctl.kernels.float_vectors import LANES, VECTOR, WIDE, add_product, constant, load_some, store_some
from barlowctl.kernels.vector_code import LONG, at, for_each, load, repeat, store

WINDOWS, TAPS = 4, 9
"""Windows that have a pixel, at most; and pixels that a window has."""
NOWHERE = 255
"""Instead of a place in a window: nothing in it is above 0."""
_LONGS = types.int64
_OCTETS = ir.VectorType(ir.IntType(8), LANES)


def _octets(number: int) -> Any:
    return ir.Constant(_OCTETS, [number] * LANES)


def _every(b: Any, number: Any) -> Any:
    """A vector of uint8, each this number."""
    undefined = ir.Constant(_OCTETS, ir.Undefined)
    one = b.insert_element(undefined, b.trunc(number, ir.IntType(8)), ir.IntType(32)(0))
    return b.shuffle_vector(one, undefined, ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES))


def _is_bf16(signature: Any) -> bool:
    return bool(signature.args[0] == types.uint16)


@intrinsic
def pool_windows(typing_context, like, *numbers):
    """out = the largest of each window, none of which is below 0; at = its place, of equal ones the first.

    numbers: the nine pixels of the first window, line by line; windows, vectors of a pixel, out and at. From a window
    to the next are two pixels.
    """

    def code(context, b, signature, arguments):
        *taps, windows, vectors, out, places = cgutils.unpack_tuple(b, arguments[1])
        bits = 16 if _is_bf16(signature) else 32
        kind, size = ir.VectorType(ir.IntType(bits), LANES), LANES * bits // 8
        magnitude = ir.Constant(kind, [(1 << (bits - 1)) - 1] * LANES)

        def window(index, _):
            before = b.mul(index, vectors)

            def columns(number, _):
                place = b.add(b.shl(before, LONG(1)), number)
                most, where = ir.Constant(kind, [0] * LANES), _octets(NOWHERE)
                for tap, start in enumerate(taps):
                    own = b.and_(load(b, at(b, start, place, size), kind), magnitude)
                    larger = b.icmp_unsigned(">", own, most)
                    most, where = b.select(larger, own, most), b.select(larger, _octets(tap), where)
                store(b, most, at(b, out, b.add(before, number), size))
                store(b, where, at(b, places, b.add(before, number), LANES), 1)
                return []

            repeat(b, vectors, columns, [])
            return []

        repeat(b, windows, window, [])
        return context.get_dummy_value()

    return types.void(like, types.UniTuple(_LONGS, len(numbers))), code


@intrinsic
def sum_windows(typing_context, like, *numbers):
    """Adds the sums of g, and of its product with x - centre at the places, over windows.

    numbers: as of `pool_windows`, whose pixels may be any where no place is; g and at, then centre, total and product.
    """

    def code(context, b, signature, arguments):
        *taps, windows, vectors, g, places, centre, total, product = cgutils.unpack_tuple(b, arguments[1])
        bf16 = _is_bf16(signature)
        size = WIDE // 2 if bf16 else WIDE

        def columns(number, _):
            mean = load(b, at(b, centre, number, WIDE), VECTOR, 4)

            def window(index, sums):
                before = b.mul(index, vectors)
                own, place = b.add(before, number), b.add(b.shl(before, LONG(1)), number)
                where = load(b, at(b, places, own, LANES), _OCTETS, 1)
                x = constant(0.0)
                for tap, start in enumerate(taps):
                    value = load_some(b, at(b, start, place, size), bf16)
                    x = b.select(b.icmp_unsigned("==", where, _octets(tap)), value, x)
                passed = b.icmp_unsigned("!=", where, _octets(NOWHERE))
                value = b.select(passed, load_some(b, at(b, g, own, size), bf16), constant(0.0))
                return [b.fadd(sums[0], value), add_product(b, sums[1], value, b.fsub(x, mean))]

            own = [at(b, address, number, WIDE) for address in (total, product)]
            before = [load(b, address, VECTOR, 4) for address in own]
            for address, value in zip(own, repeat(b, windows, window, before), strict=True):
                store(b, value, address, 4)
            return []

        repeat(b, vectors, columns, [])
        return context.get_dummy_value()

    return types.void(like, types.UniTuple(_LONGS, len(numbers))), code


@intrinsic
def write_pixels(typing_context, like, *numbers):
    """out = gradient scale + x slope + offset, of pixels: the gradient is what windows that have them pass on.

    numbers: of windows how many, 1, 2 or 4; of each of four g, at and the place that a pixel has in it; then x, pixels,
    vectors of a pixel, scale, slope, offset and out. From a pixel to the next is one window, and two pixels of x.
    """

    def code(context, b, signature, arguments):
        count, *windows = cgutils.unpack_tuple(b, arguments[1])
        x, pixels, vectors, scale, slope, offset, out = windows[3 * WINDOWS :]
        bf16 = _is_bf16(signature)
        size = WIDE // 2 if bf16 else WIDE

        def of(many):
            own = [windows[3 * window : 3 * window + 3] for window in range(many)]
            expected = [_every(b, place) for _, _, place in own]

            def pixel(index, _):
                before = b.mul(index, vectors)

                def columns(number, _):
                    place, window = b.add(b.shl(before, LONG(1)), number), b.add(before, number)
                    factors = [load(b, at(b, address, number, WIDE), VECTOR, 4) for address in (scale, slope, offset)]
                    gradient = None
                    for (g, places, _), which in zip(own, expected, strict=True):
                        has = b.icmp_unsigned("==", load(b, at(b, places, window, LANES), _OCTETS, 1), which)
                        value = b.select(has, load_some(b, at(b, g, window, size), bf16), constant(0.0))
                        gradient = value if gradient is None else b.fadd(gradient, value)
                    value = add_product(b, factors[2], load_some(b, at(b, x, place, size), bf16), factors[1])
                    value = add_product(b, value, gradient, factors[0])
                    store_some(b, value, at(b, out, place, size), bf16)
                    return []

                repeat(b, vectors, columns, [])
                return []

            repeat(b, pixels, pixel, [])

        for_each(b, count, (1, 2, 4), of)
        return context.get_dummy_value()

    return types.void(like, types.UniTuple(_LONGS, len(numbers))), code
