"""Random numbers that a step draws on its device, each a pure function of (seed, step, stream, counter).

Computed with whole numbers, so that every device and every rank draws the same, a run that is resumed goes on as it
would have, and a step that was captured as a CUDA graph draws anew at each replay: the step is a tensor. The hash is a
32-bit integer finaliser (two rounds of xor-shift and multiply), applied to a key and a counter.
"""

from __future__ import annotations

import torch
from torch import Tensor

MASK = 0xFFFFFFFF
GOLDEN = 0x9E3779B9
MULTIPLIER = 0x45D9F3B
"""Below 2^31: a product with 32 bits stays below 2^63, and int64 holds it."""


def _mixed(x: Tensor) -> Tensor:
    for _ in range(2):
        x = ((x ^ (x >> 16)) * MULTIPLIER) & MASK
    return x ^ (x >> 16)


def bits(seed: int, step: Tensor, stream: int, counters: Tensor) -> Tensor:
    """32 random bits for each counter, int64 of their shape on the step's device.

    Args:
        seed: below 2^63. step: int64, 0-dimensional. stream: one for each purpose. counters: int64, below 2^31.
    """
    key = step.to(torch.int64)
    for part in (seed & MASK, seed >> 32, stream):
        key = _mixed((key ^ part) + GOLDEN & MASK)
    return _mixed(_mixed(key ^ (counters * GOLDEN & MASK)) ^ (key >> 7))


def _up_to(count: int, step: Tensor) -> Tensor:
    return torch.arange(count, device=step.device, dtype=torch.int64)


def permutation(seed: int, step: Tensor, stream: int, count: int) -> Tensor:
    """A random order of `count` things, int64 `(count,)`."""
    return bits(seed, step, stream, _up_to(count, step)).argsort(stable=True)


def permutations(seed: int, step: Tensor, stream: int, things: Tensor, count: int) -> Tensor:
    """A random order of `count` parts for each thing, which decides it: int64 `(n,)` -> `(n, count)`."""
    counters = things[:, None] * count + _up_to(count, step)
    return bits(seed, step, stream, counters & (MASK >> 1)).argsort(dim=1, stable=True)


def uniform(seed: int, step: Tensor, stream: int) -> Tensor:
    """One number between 0 and 1, float32, 0-dimensional."""
    return (bits(seed, step, stream, _up_to(1, step))[0].to(torch.float32) + 0.5) / (MASK + 1)


def integers(seed: int, step: Tensor, stream: int, count: int, below: int) -> Tensor:
    """Whole numbers in [0, below), int64 `(count,)`; `below` is less than 2^31."""
    return bits(seed, step, stream, _up_to(count, step)) * below >> 32
