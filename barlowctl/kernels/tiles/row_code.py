"""Short rows of bfloat16 in memory, in LLVM's instructions: what `row_products` lays out. All is in bytes."""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from barlowctl.kernels.vector_code import LONG, at, load, repeat, store

UNIT = 8
"""Numbers of bfloat16 that are copied at a time."""
_UNIT = ir.VectorType(ir.IntType(16), UNIT)
_HALF_UNIT, _NUMBER = ir.IntType(64), ir.IntType(16)


def _copy(b, source, target, kind):
    store(b, load(b, source, kind), target)


@intrinsic
def copy(typing_context, source, target, count):
    """Copy some numbers of bfloat16: eight or four at a time, of which the last ones may be written twice."""

    def code(context, b, signature, arguments):
        source, target, count = arguments

        def copy_one(number, kind, size):
            _copy(b, at(b, source, number, size), at(b, target, number, size), kind)
            return []

        def copy_last(kind, numbers):
            back = b.mul(b.sub(count, LONG(numbers)), LONG(2))
            _copy(b, b.add(source, back), b.add(target, back), kind)

        with b.if_else(b.icmp_signed(">=", count, LONG(UNIT))) as (many, few):
            with many:
                repeat(b, b.lshr(count, LONG(3)), lambda unit, _: copy_one(unit, _UNIT, 2 * UNIT), [])
                with b.if_then(b.icmp_signed("!=", b.and_(count, LONG(UNIT - 1)), LONG(0))):
                    copy_last(_UNIT, UNIT)
            with few, b.if_else(b.icmp_signed(">=", count, LONG(UNIT // 2))) as (some, fewer):
                with some:
                    copy_one(LONG(0), _HALF_UNIT, 0)
                    copy_last(_HALF_UNIT, UNIT // 2)
                with fewer, b.if_then(b.icmp_signed(">", count, LONG(0))):
                    repeat(b, count, lambda number, _: copy_one(number, _NUMBER, 2), [])
        return context.get_dummy_value()

    return types.void(*[types.int64] * 3), code
