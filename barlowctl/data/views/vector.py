"""The loops that the loader spends its time in, as vector code: a weighted sum of lines, a transposition, and a copy.

Written in LLVM's vectors rather than left to numba's loop vectoriser, which must guard against arrays that overlap
and pairs its loops differently from version to version. LLVM cuts the vectors to what the machine has.

The first two read whole vectors and so up to `SLACK` elements past the end of a line: sources must have that room.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

LANES = 16
AT_ONCE = 4  # vectors of a line that are summed together: enough to hide the latency of an addition
TILE = 8
SLACK = LANES

_FLOAT, _INDEX = ir.FloatType(), ir.IntType(64)
_VECTOR, _MASK = ir.VectorType(_FLOAT, LANES), ir.VectorType(ir.IntType(1), LANES)


def _data(context: Any, builder: Any, kind: Any, value: Any) -> Any:
    """The address of an array's first element."""
    return context.make_array(kind)(context, builder, value).data


def _load(builder: Any, address: Any, lanes: int, element: Any, alignment: int) -> Any:
    vector = ir.VectorType(element, lanes)
    return builder.load(builder.bitcast(address, vector.as_pointer()), align=alignment)


def _spread(builder: Any, value: Any, element: Any) -> Any:
    """A vector whose elements are all `value`."""
    undefined = ir.Constant(ir.VectorType(element, LANES), ir.Undefined)
    single = builder.insert_element(undefined, value, ir.IntType(32)(0))
    return builder.shuffle_vector(single, undefined, ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES))


@intrinsic
def sum_lines(typing_context, source, begin, stride, weights, tap, count, out, at, length, low, high):
    """out[at : at + length] = sum_k weights[tap + k] source[begin + k stride : ... + length], k < count.

    source: uint8 or float32, flat; weights, out: float32, flat; the rest: whole numbers, count and length 1 or more.
    The sum is taken in the order of k, fused where the machine can, and clamped to [low, high], float32.
    """
    whole = types.int64
    signature = types.void(source, whole, whole, weights, whole, whole, out, whole, whole, types.float32, types.float32)
    narrow = source.dtype == types.uint8

    def code(context, builder, signature, arguments):
        source_value, begin, stride, weights_value, tap, count, out_value, at, length, low, high = arguments
        kinds = signature.args
        lines = builder.gep(_data(context, builder, kinds[0], source_value), [begin])
        factors = builder.gep(_data(context, builder, kinds[3], weights_value), [tap])
        target = builder.gep(_data(context, builder, kinds[6], out_value), [at])
        function = ir.FunctionType(_VECTOR, [_VECTOR] * 3)
        multiply_add = cgutils.get_or_insert_function(builder.module, function, f"llvm.fmuladd.v{LANES}f32")
        masked = ir.FunctionType(ir.VoidType(), [_VECTOR, _VECTOR.as_pointer(), ir.IntType(32), _MASK])
        store_some = cgutils.get_or_insert_function(builder.module, masked, f"llvm.masked.store.v{LANES}f32.p0")
        zero, one = _INDEX(0), _INDEX(1)
        low, high = _spread(builder, low, _FLOAT), _spread(builder, high, _FLOAT)
        numbers = ir.Constant(ir.VectorType(_INDEX, LANES), list(range(LANES)))

        def pixels(address):
            if not narrow:
                return _load(builder, address, LANES, _FLOAT, 4)
            return builder.uitofp(_load(builder, address, LANES, ir.IntType(8), 1), _VECTOR)

        def stretch(x, vectors, left):
            """`vectors` vectors from position x on, over all k; of the last one only `left` values are kept."""
            first = builder.gep(lines, [x])
            sums = [cgutils.alloca_once_value(builder, ir.Constant(_VECTOR, None)) for _ in range(vectors)]
            for one_sum in sums:
                builder.store(ir.Constant(_VECTOR, None), one_sum)
            with cgutils.for_range_slice(builder, zero, count, one, intp=_INDEX) as (k, _):
                factor = _spread(builder, builder.load(builder.gep(factors, [k])), _FLOAT)
                line = builder.gep(first, [builder.mul(k, stride)])
                for number, one_sum in enumerate(sums):
                    there = builder.gep(line, [_INDEX(number * LANES)])
                    total = builder.call(multiply_add, [factor, pixels(there), builder.load(one_sum)])
                    builder.store(total, one_sum)
            for number, one_sum in enumerate(sums):
                total = builder.load(one_sum)
                total = builder.select(builder.fcmp_ordered("<", total, low), low, total)
                total = builder.select(builder.fcmp_ordered(">", total, high), high, total)
                there = builder.gep(target, [builder.add(x, _INDEX(number * LANES))])
                there = builder.bitcast(there, _VECTOR.as_pointer())
                if left is None:
                    builder.store(total, there, align=4)
                else:
                    mask = builder.icmp_signed("<", numbers, _spread(builder, left, _INDEX))
                    builder.call(store_some, [total, there, ir.IntType(32)(4), mask])

        wide = _INDEX(AT_ONCE * LANES)
        end = builder.mul(builder.sdiv(length, wide), wide)
        with cgutils.for_range_slice(builder, zero, end, wide, intp=_INDEX) as (x, _):
            stretch(x, AT_ONCE, None)
        with cgutils.for_range_slice(builder, end, length, _INDEX(LANES), intp=_INDEX) as (x, _):
            stretch(x, 1, builder.sub(length, x))
        return context.get_dummy_value()

    return signature, code


@intrinsic
def copy(typing_context, source, begin, target, at, length):
    """target[at : at + length] = source[begin : begin + length]; flat arrays of one kind that do not overlap there."""
    whole = types.int64
    signature = types.void(source, whole, target, whole, whole)
    assert source.dtype == target.dtype

    def code(context, builder, signature, arguments):
        source_value, begin, target_value, at, length = arguments
        taken = builder.gep(_data(context, builder, signature.args[0], source_value), [begin])
        put = builder.gep(_data(context, builder, signature.args[2], target_value), [at])
        cgutils.raw_memcpy(builder, put, taken, length, source.dtype.bitwidth // 8, align=1)
        return context.get_dummy_value()

    return signature, code


@intrinsic
def turn(typing_context, source, begin, stride, rows, columns, target, at, target_stride):
    """target[at + x target_stride + r] = source[begin + r stride + x] for all r < rows, x < columns.

    source and target: flat arrays of one kind, 4 bytes an element. Whole tiles of `TILE` by `TILE` are moved: up to
    TILE - 1 rows and columns more are read and written.
    """
    whole = types.int64
    signature = types.void(source, whole, whole, whole, whole, target, whole, whole)
    assert source.dtype.bitwidth == target.dtype.bitwidth == 32
    word = ir.IntType(32)
    tile = ir.VectorType(word, TILE)
    mask = ir.VectorType(word, TILE)
    low = ir.Constant(mask, [i // 2 + TILE * (i % 2) for i in range(TILE)])
    high = ir.Constant(mask, [TILE // 2 + i // 2 + TILE * (i % 2) for i in range(TILE)])

    def code(context, builder, signature, arguments):
        source_value, begin, stride, rows, columns, target_value, at, target_stride = arguments
        pointer = word.as_pointer()
        lines = builder.bitcast(_data(context, builder, signature.args[0], source_value), pointer)
        out = builder.bitcast(_data(context, builder, signature.args[5], target_value), pointer)
        lines, out = builder.gep(lines, [begin]), builder.gep(out, [at])
        zero, step = _INDEX(0), _INDEX(TILE)
        with cgutils.for_range_slice(builder, zero, rows, step, intp=_INDEX) as (r, _):
            corner = builder.gep(lines, [builder.mul(r, stride)])
            with cgutils.for_range_slice(builder, zero, columns, step, intp=_INDEX) as (x, _):
                values = [
                    _load(builder, builder.gep(corner, [builder.add(x, builder.mul(_INDEX(i), stride))]), TILE, word, 4)
                    for i in range(TILE)
                ]
                half = TILE // 2
                for _stage in range(TILE.bit_length() - 1):  # each interleaves the first half with the second
                    pairs = [(values[i], values[i + half]) for i in range(half)]
                    values = [builder.shuffle_vector(*pair, which) for pair in pairs for which in (low, high)]
                for i, value in enumerate(values):
                    place = builder.add(builder.mul(builder.add(x, _INDEX(i)), target_stride), r)
                    builder.store(value, builder.bitcast(builder.gep(out, [place]), tile.as_pointer()), align=4)
        return context.get_dummy_value()

    return signature, code
