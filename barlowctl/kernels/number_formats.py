"""Numbers in memory as kernels read and write them: bfloat16 or float32, by their addresses; float32 in between.

`like` is a value of what lies in memory, as in `np.zeros_like`: numba has no bfloat16, so that its bits stand for it.
A kernel is compiled for each of the two when it is first called with it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

LIKE: dict[torch.dtype, Any] = {torch.bfloat16: np.uint16(0), torch.float32: np.float32(0.0)}
"""By torch's number format, what a kernel gets for `like`."""

_HALF, _WORD, _LONG, _FLOAT = ir.IntType(16), ir.IntType(32), ir.IntType(64), ir.FloatType()
_IN_MEMORY = {types.uint16: _HALF, types.float32: _FLOAT}


@intrinsic
def wide(typing_context, value):
    """The float32 of a number in memory: of a bfloat16's bits, uint16, or itself."""

    def code(context, builder, signature, arguments):
        if value == types.float32:
            return arguments[0]
        bits = builder.shl(builder.zext(arguments[0], _WORD), _WORD(16))
        return builder.bitcast(bits, _FLOAT)

    return types.float32(value), code


@intrinsic
def narrow(typing_context, value, like):
    """A float32 as it is in memory: the bits of the bfloat16 that is nearest, of two the even one; or itself.

    What is no number stays so: rounded like a number, bits of 0x7fffffff would be -0, and of 0x7f800001 infinity.
    """

    def code(context, builder, signature, arguments):
        if like == types.float32:
            return arguments[0]
        bits = builder.bitcast(arguments[0], _WORD)
        odd = builder.and_(builder.lshr(bits, _WORD(16)), _WORD(1))
        rounded = builder.add(builder.add(bits, _WORD(0x7FFF)), odd)
        whole = builder.select(
            builder.fcmp_unordered("uno", arguments[0], arguments[0]),
            builder.or_(bits, _WORD(1 << 22)),
            rounded,
        )
        return builder.trunc(builder.lshr(whole, _WORD(16)), _HALF)

    return like(types.float32, like), code


@intrinsic
def is_zero(typing_context, value):
    """Whether a number in memory is 0 or -0, by its bits, whatever the processor makes of the smallest ones."""

    def code(context, builder, signature, arguments):
        kind = _WORD if value == types.float32 else _HALF
        bits = builder.bitcast(arguments[0], kind) if value == types.float32 else arguments[0]
        magnitude = builder.and_(bits, kind((1 << (kind.width - 1)) - 1))
        return builder.icmp_unsigned("==", magnitude, kind(0))

    return types.boolean(value), code


@intrinsic
def pointer(typing_context, address, like):
    """To numbers at an address."""

    def code(context, builder, signature, arguments):
        return builder.inttoptr(arguments[0], _IN_MEMORY[like].as_pointer())

    return types.CPointer(like)(types.int64, like), code


@intrinsic
def itemsize(typing_context, like):
    """Bytes of a number in memory."""

    def code(context, builder, signature, arguments):
        return _LONG(like.bitwidth // 8)

    return types.int64(like), code
