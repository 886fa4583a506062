"""Keyed randomness: every random number is a pure function of (seed, epoch, sample, view, slot).

A counter-based stream: the four keys are hashed by splitmix64 (Steele, Lea, Flood 2014) into 64 bits, and number `slot`
of the stream is the hash of that key plus slot times the golden gamma.
"""

from __future__ import annotations

import numpy as np

from barlowctl.kernel_cache import njit

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
MIX_2 = np.uint64(0x94D049BB133111EB)


@njit(cache=True, nogil=True)
def mix(value):
    """splitmix64's finaliser: uint64 -> uint64, a bijection."""
    value = (value ^ (value >> np.uint64(30))) * MIX_1
    value = (value ^ (value >> np.uint64(27))) * MIX_2
    return value ^ (value >> np.uint64(31))


@njit(cache=True, nogil=True)
def stream_key(seed, epoch, sample, view):
    """The uint64 key of a view's stream."""
    key = mix(np.uint64(seed) + GOLDEN)
    key = mix((key ^ np.uint64(epoch)) + GOLDEN)
    key = mix((key ^ np.uint64(sample)) + GOLDEN)
    return mix((key ^ np.uint64(view)) + GOLDEN)


@njit(cache=True, nogil=True)
def uniform(key, slot):
    """Number `slot` of a stream, float64 in [0, 1)."""
    bits = mix(key + np.uint64(slot + 1) * GOLDEN)
    return np.float64(bits >> np.uint64(11)) * 1.1102230246251565e-16  # 2 ** -53


@njit(cache=True, nogil=True)
def between(key, slot, low, high):
    """Uniform in [low, high)."""
    return low + (high - low) * uniform(key, slot)


@njit(cache=True, nogil=True)
def below(key, slot, count):
    """A whole number in [0, count), uniform."""
    return min(np.int64(uniform(key, slot) * count), np.int64(count - 1))
