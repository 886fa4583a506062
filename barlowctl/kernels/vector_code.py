"""Pieces of vector code that kernels of ours are built of, in LLVM's instructions. All is an address, in bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from llvmlite import ir
from numba.core import cgutils

from barlowctl import kernel_cache

LONG = ir.IntType(64)


def features() -> dict[str, bool]:
    """What the processor that kernels are compiled for can do, by LLVM's names; what is missing it cannot."""
    return {name[1:]: name.startswith("+") for name in kernel_cache.compiled_for().split(",")}


def has_amx() -> bool:
    """Whether it multiplies tiles of bfloat16."""
    return all(features().get(name) for name in ("amx-tile", "amx-bf16", "avx512f"))


def has_bf16_vectors() -> bool:
    """Whether it multiplies vectors of bfloat16, of 512 bits."""
    return all(features().get(name) for name in ("avx512f", "avx512bf16"))


def load(b: Any, address: Any, kind: Any, align: int = 2) -> Any:
    """The number or vector of a kind at an address, which is a multiple of `align`."""
    return b.load(b.inttoptr(address, kind.as_pointer()), align=align)


def store(b: Any, value: Any, address: Any, align: int = 2) -> None:
    """Put a number or vector there."""
    b.store(value, b.inttoptr(address, value.type.as_pointer()), align=align)


def at(b: Any, address: Any, index: Any, size: int | Any) -> Any:
    """address + index size."""
    return b.add(address, b.mul(index, LONG(size) if isinstance(size, int) else size))


def call(b: Any, name: str, result: Any, arguments: Sequence[Any]) -> Any:
    """What a function of LLVM's gives."""
    kind = ir.FunctionType(result, [argument.type for argument in arguments])
    return b.call(cgutils.get_or_insert_function(b.module, kind, name), arguments)


def prefetch(b: Any, address: Any, written: bool = False) -> None:
    """Have the processor fetch what is there into its cache; written: as its own, since it will be written to."""
    pointer = b.inttoptr(address, ir.IntType(8).as_pointer())
    word = ir.IntType(32)
    kind = ir.FunctionType(ir.VoidType(), [pointer.type, word, word, word])
    function = cgutils.get_or_insert_function(b.module, kind, "llvm.prefetch.p0i8")
    b.call(function, [pointer, word(int(written)), word(3), word(1)])


def repeat(b: Any, count: Any, body: Callable[[Any, list[Any]], list[Any]], first: Sequence[Any]) -> list[Any]:
    """`body(i, values)` for each i of `count`, 1 or more, whose results are the next one's values."""
    before, head, after = b.block, b.append_basic_block(), b.append_basic_block()
    b.branch(head)
    b.position_at_end(head)
    i = b.phi(LONG)
    i.add_incoming(LONG(0), before)
    values = [b.phi(value.type) for value in first]
    for value, start in zip(values, first, strict=True):
        value.add_incoming(start, before)
    results = body(i, list(values))
    following = b.add(i, LONG(1))
    i.add_incoming(following, b.block)
    for value, result in zip(values, results, strict=True):
        value.add_incoming(result, b.block)
    b.cbranch(b.icmp_signed("<", following, count), head, after)
    b.position_at_end(after)
    return results


def for_each(b: Any, value: Any, values: Iterable[int], code: Callable[[int], None]) -> None:
    """`code(value)`, compiled for each of some values."""
    end = b.append_basic_block()
    ways = b.switch(value, end)
    for each in values:
        block = b.append_basic_block()
        ways.add_case(LONG(each), block)
        b.position_at_end(block)
        code(each)
        b.branch(end)
    b.position_at_end(end)
