"""torch's own threads on a CPU, for kernels of ours: the pool that its operations use, so that no core has two."""

from __future__ import annotations

import ctypes
from functools import cache
from pathlib import Path

import torch


@cache
def address() -> int | None:
    """Of `GOMP_parallel(function, data, threads, flags)` of the OpenMP library that torch is linked with.

    It calls a function of one pointer once in each of some threads, the calling one among them, and returns when all
    are done. LLVM's and Intel's libraries have it by this name too. None: torch has other threads, or is linked in
    another way.
    """
    for name in ("libtorch_cpu.so", "libtorch.so"):
        library = Path(torch.__file__).parent / "lib" / name
        try:
            function = ctypes.CDLL(str(library)).GOMP_parallel  # also looked for in what the library needs
        except (OSError, AttributeError):
            continue
        return ctypes.cast(function, ctypes.c_void_p).value
    return None


def team() -> tuple[int, int]:
    """Who works: the address of OpenMP's `parallel` and a number of threads; (0, 1): the calling one alone."""
    threads, parallel = torch.get_num_threads(), address()
    return (0, 1) if threads == 1 or parallel is None else (parallel, threads)


def count() -> int:
    """How many threads work: see `team`."""
    return team()[1]


def serves() -> bool:
    """Whether kernels of ours have the threads that torch computes with: one, or its own."""
    return torch.get_num_threads() == 1 or address() is not None
