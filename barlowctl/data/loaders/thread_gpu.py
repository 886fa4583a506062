"""Which GPU a loader's threads work with: the one of the thread that starts them.

A thread begins with the first GPU as its current one, and CUDA may make itself a context there, of hundreds of MB, when
such a thread waits for an event or page-locks memory: with several ranks on a machine, each on a GPU of its own, all
would take memory of the first.
"""

from __future__ import annotations

import torch


def current_gpu(pin_memory: bool) -> int | None:
    """The GPU that this thread works with, where its loader makes batches for one; else None."""
    return torch.cuda.current_device() if pin_memory and torch.cuda.is_available() else None


def work_with(gpu: int | None) -> None:
    """Let this thread work with a GPU that `current_gpu` named."""
    if gpu is not None:
        torch.cuda.set_device(gpu)
