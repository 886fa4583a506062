"""What kernels of several threads share: a task in memory, whose tiles each thread takes one after another.

The threads are torch's own (see `thread_team`). Who takes which tile is chance, so a tile has memory of its own, and
nothing is added up across tiles but in a fixed order.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from llvmlite import ir
from numba import carray, types
from numba.extending import intrinsic

from barlowctl.kernel_cache import njit
from barlowctl.kernels.compiling import KERNEL

NEXT = 0  # of a task's fields that of the tile which nobody has taken yet
TASK = types.void(types.CPointer(types.int64))
SHARED = {name: value for name, value in KERNEL.items() if name not in ("nogil", "fastmath")}
"""Of functions of C, which have no lock to let go."""
_OCTET, _INT, _LONG, _WORD, _FLOAT = ir.IntType(8), ir.IntType(32), ir.IntType(64), ir.IntType(32), ir.FloatType()


def new_task(size: int, places: Mapping[str, Any], fields: Mapping[str, int]) -> np.ndarray:
    """A task of `size` fields, int64: these, and zeros.

    places: by a field's name in capitals where it is, the constants of a module.
    """
    task = np.zeros(size, np.int64)
    for name, value in fields.items():
        task[places[name.upper()]] = value
    return task


@intrinsic
def take(typing_context, task, field):
    """The number that a field of a task has, which no other thread gets: it is one more then."""

    def code(context, builder, signature, arguments):
        start = builder.bitcast(arguments[0], _LONG.as_pointer())
        return builder.atomic_rmw("add", builder.gep(start, [arguments[1]]), ir.Constant(_LONG, 1), "monotonic")

    return types.int64(types.CPointer(types.int64), types.int64), code


def _values(kind: Any, numbers: Any) -> Any:
    """To values at an address: of a type of LLVM's, which is one of numba's."""

    @intrinsic
    def pointer(typing_context, address):
        def code(context, builder, signature, arguments):
            return builder.inttoptr(arguments[0], kind.as_pointer())

        return types.CPointer(numbers)(types.int64), code

    return pointer


floats, words = _values(_FLOAT, types.float32), _values(_WORD, types.uint32)
longs, octets = _values(_LONG, types.int64), _values(_OCTET, types.uint8)
"""Pointers to numbers at an address, for `carray`."""


@intrinsic
def together(typing_context, parallel, function, task, threads):
    """Have some threads call a function, by its address, with the address of a task: see `thread_team.address`."""

    def code(context, builder, signature, arguments):
        kind = ir.FunctionType(ir.VoidType(), [_LONG, _LONG, _INT, _INT])
        call = builder.inttoptr(arguments[0], kind.as_pointer())
        threads = builder.trunc(arguments[3], _INT)
        builder.call(call, [arguments[1], arguments[2], threads, ir.Constant(_INT, 0)])
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64, types.int64), code


@intrinsic
def alone(typing_context, function, task):
    """Call a function, by its address, with the address of a task."""

    def code(context, builder, signature, arguments):
        call = builder.inttoptr(arguments[0], ir.FunctionType(ir.VoidType(), [_LONG]).as_pointer())
        builder.call(call, [arguments[1]])
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), code


@njit(**KERNEL)
def clear(address, size):
    """Write zeros: `size` bytes, a multiple of 4."""
    values = carray(floats(address), (size // 4,))
    for place in range(size // 4):
        values[place] = 0.0


@njit(**KERNEL)
def call(team, function, task):
    """Have a team call a function, by its address, with a task, from its first tile on.

    team: see `thread_team.team`; of one thread it is the calling one.
    """
    task[NEXT] = 0
    if team[1] == 1:
        alone(function, task.ctypes.data)
    else:
        together(team[0], function, task.ctypes.data, team[1])
