"""Distortions beyond the paper's table, after its photometric chain: gamma, and an erased rectangle.

Off by default. They help where colour jitter has little to change, on grey images of 28 pixels for example.
Planes as in `photometric`: float32 (C, S, S) in 0..255, in place; here the axes matter, and are (x, y).
"""

from __future__ import annotations

import numpy as np

from barlowctl.kernel_cache import njit

TOP = np.float32(255.0)


@njit(cache=True, nogil=True)
def adjust_gamma(values, exponent):
    """values = 255 (values / 255) ^ exponent, over a flat array."""
    exponent = np.float32(exponent)
    for i in range(values.shape[0]):
        values[i] = TOP * (values[i] / TOP) ** exponent


@njit(cache=True, nogil=True)
def corrupt(planes, parameters):
    """Apply a `Draw`'s gamma, then erase its rectangle; three levels are drawn, and further channels begin anew."""
    if parameters.gamma != 1.0:
        for c in range(planes.shape[0]):
            adjust_gamma(planes[c].reshape(planes.shape[1] * planes.shape[2]), parameters.gamma)
    if parameters.erase_height == 0:
        return
    top, left = parameters.erase_top, parameters.erase_left
    levels = (parameters.erase_red, parameters.erase_green, parameters.erase_blue)
    for c in range(planes.shape[0]):
        level = np.float32(levels[c % 3])
        for x in range(left, left + parameters.erase_width):
            for y in range(top, top + parameters.erase_height):
                planes[c, x, y] = level
