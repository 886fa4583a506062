"""Memory of kernels that is the same at every call: parts do not overlap, and each thread has its own."""

from __future__ import annotations

import ctypes
import threading
import weakref
from collections.abc import Iterator

import pytest

from barlowctl.assemble.machine import return_freed_memory
from barlowctl.kernels import scratchpad


@pytest.fixture(autouse=True)
def nothing_taken() -> Iterator[None]:
    scratchpad.give_back()
    yield
    scratchpad.give_back()


def test_parts_lie_apart_and_begin_with_a_line_of_the_cache() -> None:
    sizes = (1, 64, 65, 4096, 3)
    begins = scratchpad.take(*sizes)
    ends = [begin + size for begin, size in zip(begins, sizes, strict=True)]
    assert all(begin % scratchpad.LINE == 0 for begin in begins)
    assert all(end <= begin for end, begin in zip(ends, begins[1:], strict=False))
    for begin, size in zip(begins, sizes, strict=True):  # all of it may be written to
        ctypes.memset(begin, 255, size)


def test_a_later_call_has_the_same_memory_until_it_needs_more() -> None:
    (first,) = scratchpad.take(1 << 20)
    assert scratchpad.take(1000, 2000)[0] == first
    assert scratchpad.take(1 << 20) == [first]
    (larger,) = scratchpad.take(1 << 24)
    ctypes.memset(larger, 255, 1 << 24)
    assert scratchpad.take(1 << 20) == [larger]


def test_very_much_is_for_one_call() -> None:
    """What is not needed again would be missing to activations."""
    (small,) = scratchpad.take(1 << 20)
    (large,) = scratchpad.take(scratchpad.MOST + 1)
    assert large != small
    ctypes.memset(large, 255, scratchpad.MOST + 1)
    memory = weakref.ref(scratchpad._of_thread.once)
    assert scratchpad.take(1 << 20) == [small]
    assert memory() is None


def test_zeros_are_zeros_for_any_size() -> None:
    for size in (8, 4096, 100_000, 16):
        assert ctypes.string_at(scratchpad.zeros(size), size) == bytes(size)


def test_each_thread_has_its_own() -> None:
    own, others = scratchpad.take(4096), list[list[int]]()
    thread = threading.Thread(target=lambda: others.append([*scratchpad.take(4096), scratchpad.zeros(64)]))
    thread.start()
    thread.join()
    assert not {*own, scratchpad.zeros(64)} & set(others[0])


def test_it_is_given_back_with_what_the_c_library_kept() -> None:
    scratchpad.take(1 << 20)
    return_freed_memory()
    assert not vars(scratchpad._of_thread)
