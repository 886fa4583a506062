"""torch's own threads, as kernels of ours call them."""

from __future__ import annotations

import ctypes
import threading

import pytest

from barlowctl.kernels import thread_team


@pytest.mark.skipif(thread_team.address() is None, reason="torch has no threads here that kernels can use")
def test_the_team_is_of_as_many_threads_as_are_called() -> None:
    address, seen = thread_team.address(), list[int]()
    barrier = threading.Barrier(3, timeout=60)
    parallel = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint)(address or 0)

    @ctypes.CFUNCTYPE(None, ctypes.c_void_p)
    def note(data: int) -> None:
        seen.append(threading.get_ident())
        barrier.wait()  # all of them are there at the same time

    parallel(ctypes.cast(note, ctypes.c_void_p), None, 3, 0)
    assert len(set(seen)) == 3
    assert threading.get_ident() in seen
