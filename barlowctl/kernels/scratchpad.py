"""Memory that kernels write to while they are called, and that nobody reads afterwards: the same at every call.

It is in the processor's cache from the call before, which what is allocated anew is not; and allocating it takes as
long as a small kernel. oneDNN has the same by this name. What was measured is in docs/experiments.md.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

LINE = 64
"""Bytes of a line of the processor's cache, at which each part begins."""
MOST = 2**25
"""Bytes that stay between calls. More is in no cache, and activations need it: it is for one call."""
_of_thread = threading.local()


def take(*sizes: int) -> Sequence[int]:
    """Addresses of parts of so many bytes each, which hold anything; until this thread calls it again."""
    begins, size = [], 0
    for part in sizes:
        begins.append(size)
        size += whole_lines(part)
    start = _memory(size).data_ptr()
    return [start + begin for begin in begins]


def zeros(size: int) -> int:
    """The address of so many bytes that are 0, which nobody writes to; until this thread calls it again."""
    own: np.ndarray | None = getattr(_of_thread, "zeros", None)
    if own is None or own.nbytes < size:
        own = _of_thread.zeros = np.zeros(max(1024, 2 * size), np.uint8)
        _of_thread.zeros_at = int(own.ctypes.data)
    return int(_of_thread.zeros_at)


def give_back() -> None:
    """Free this thread's."""
    _of_thread.__dict__.clear()


def whole_lines(size: int) -> int:
    """Bytes of whole lines of the processor's cache."""
    return -(-size // LINE) * LINE


def _memory(size: int) -> Tensor:
    _of_thread.once = None
    if size > MOST:
        once = _of_thread.once = torch.empty(size, dtype=torch.uint8)
        return once
    own: Tensor | None = getattr(_of_thread, "memory", None)
    if own is None or own.nbytes < size:
        _of_thread.memory = None  # freed before more is taken
        own = _of_thread.memory = torch.empty(size, dtype=torch.uint8)
    return own
