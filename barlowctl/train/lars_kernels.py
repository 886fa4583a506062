"""The loops of LARS on a CPU: two passes over memory, of which one takes the norms and one writes.

Arrays are addresses of float32 values. Sums of a tile are float32, those of a parameter float64, added up in the tiles'
order: results are the same on any number of threads.
"""

from __future__ import annotations

import numpy as np
from numba import carray

from barlowctl.kernel_cache import cfunc, njit
from barlowctl.kernels.compiling import KERNEL
from barlowctl.kernels.thread_tiles import NEXT, SHARED, TASK, call, floats, take

VALUES = 8192  # of a tile
FOR_SEVERAL = 65536
"""Values from which on several threads take part."""
FIELDS = 8  # of a task
TILES, SIZE, PARAMETER, GRADIENT, MOMENTUM, SUMS, FACTORS = range(NEXT + 1, FIELDS)
DECAY, RATIO, INERTIA, RATE = range(4)  # of a task's factors
AS_IT_IS, OF_THE_SUM, OF_THE_GRADIENT = range(3)
"""Whose norm the trust ratio divides by: nobody's, for there is none; |g + decay p|; |g| + decay |p|, LARC's."""

LOOPS = {**SHARED, "fastmath": KERNEL["fastmath"]}


@njit(**KERNEL)
def values_of(task, name, first, count):
    """Some of the float32 values at an address of a task."""
    return carray(floats(task[name] + 4 * first), (count,))


@cfunc(TASK, **LOOPS)
def add_squares(address):
    """Of each tile the squares of the parameter, and of the gradient with the decay, or without where that is 0."""
    task = carray(address, (FIELDS,))
    decay = values_of(task, FACTORS, 0, 4)[DECAY]
    while True:
        tile = take(address, NEXT)
        if tile >= task[TILES]:
            return
        first = tile * VALUES
        count = min(VALUES, task[SIZE] - first)
        p, g = values_of(task, PARAMETER, first, count), values_of(task, GRADIENT, first, count)
        own, other = np.float32(0.0), np.float32(0.0)
        for i in range(count):
            own += p[i] * p[i]
            update = g[i] + decay * p[i]
            other += update * update
        sums = values_of(task, SUMS, 2 * tile, 2)
        sums[0], sums[1] = own, other


@cfunc(TASK, **LOOPS)
def move(address):
    """mu = inertia mu + ratio (g + decay p), p = p - rate mu. The last tile is first: it was read last."""
    task = carray(address, (FIELDS,))
    factors = values_of(task, FACTORS, 0, 4)
    decay, ratio, inertia, rate = factors[DECAY], factors[RATIO], factors[INERTIA], factors[RATE]
    while True:
        tile = task[TILES] - 1 - take(address, NEXT)
        if tile < 0:
            return
        first = tile * VALUES
        count = min(VALUES, task[SIZE] - first)
        p, g = values_of(task, PARAMETER, first, count), values_of(task, GRADIENT, first, count)
        mu = values_of(task, MOMENTUM, first, count)
        for i in range(count):
            moved = inertia * mu[i] + ratio * (g[i] + decay * p[i])
            mu[i] = moved
            p[i] -= rate * moved


@njit(**KERNEL)
def trust_ratio(own, other, eta, decay, rule, epsilon):
    """See `lars.LARS`; own: the parameter's norm. other: that of `g + decay p`, or of g where the rule is LARC's."""
    if rule == OF_THE_GRADIENT:
        if own > 0.0 and other > 0.0:
            return eta * own / (other + decay * own + epsilon)
        return 1.0 if other > 0.0 else 0.0
    return eta * own / other if own > 0.0 and other > 0.0 else 1.0


@njit(**KERNEL)
def step(team, addresses, sizes, rule, eta, epsilon, decay, momentum, rate, cap, in_momentum):
    """A step of LARS for some parameters.

    Args:
        team: of threads (see `thread_team.team`), then the addresses of `add_squares` and `move`.
        addresses: int64 `(parameters, 3)`: of each, its gradient and its momentum. sizes: their numbers of values.
        rule: of the ratio. cap: the ratio becomes at most this, in units of it; negative: it stays.
        in_momentum: whether the rate is in what is added to the momentum, and not in what is taken from the parameter.
    """
    task, factors = np.zeros(FIELDS, np.int64), np.empty(4, np.float32)
    sums = np.empty((-(-sizes.max() // VALUES), 2), np.float32)
    task[SUMS], task[FACTORS] = sums.ctypes.data, factors.ctypes.data
    factors[INERTIA], factors[RATE] = momentum, 1.0 if in_momentum else rate
    for index in range(len(sizes)):
        size = sizes[index]
        threads = team[1] if size >= FOR_SEVERAL else 1
        task[SIZE], task[TILES] = size, -(-size // VALUES)
        task[PARAMETER], task[GRADIENT], task[MOMENTUM] = addresses[index]
        ratio = 1.0
        if rule != AS_IT_IS:
            factors[DECAY] = 0.0 if rule == OF_THE_GRADIENT else decay
            call((team[0], threads), team[2], task)
            own, other = 0.0, 0.0
            for tile in range(task[TILES]):
                own += sums[tile, 0]
                other += sums[tile, 1]
            ratio = trust_ratio(np.sqrt(own), np.sqrt(other), eta, decay, rule, epsilon)
            if cap >= 0.0 and own > 0.0 and other > 0.0:
                ratio = min(ratio, cap) / cap if cap > 0.0 else 1.0
        factors[DECAY], factors[RATIO] = decay, ratio * rate if in_momentum else ratio
        call((team[0], threads), team[3], task)
