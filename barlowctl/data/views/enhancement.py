"""PIRL's photometric distortions of a patch: posterise, sharpness, solarise and autocontrast, in that order.

Pillow's operations, on planes as in `photometric`: float32 (C, S, S) in 0..255, in place. Pillow has whole levels
after each; here values are rounded where that decides what happens to them (posterise, solarise), and only there.
"""

from __future__ import annotations

import numpy as np
from numba import njit

ZERO, ONE, HALF, TOP = np.float32(0), np.float32(1), np.float32(0.5), np.float32(255)
CENTER_WEIGHT, WEIGHTS = np.float32(5), np.float32(13)  # of Pillow's SMOOTH: the eight pixels around weigh 1 each


@njit(cache=True, nogil=True)
def posterize(values, bits):
    """Whole levels of which the highest `bits` of 8 are left; flat array."""
    step = np.float32(2 ** (8 - bits))
    for i in range(values.shape[0]):
        values[i] = np.floor(np.floor(values[i] + HALF) / step) * step


@njit(cache=True, nogil=True)
def adjust_sharpness(plane, spare, factor):
    """factor x + (1 - factor) smoothed x of one plane (S, S), clamped; the border stays.

    Args:
        spare: float32 (>= S S,).
    """
    factor = np.float32(factor)
    rest, size = ONE - factor, plane.shape[0]
    before = spare[: size * size].reshape(size, size)
    before[:, :] = plane
    for y in range(1, size - 1):
        above, line, below = before[y - 1], before[y], before[y + 1]
        for x in range(1, size - 1):
            around = above[x - 1] + above[x] + above[x + 1] + line[x - 1] + line[x + 1]
            around += below[x - 1] + below[x] + below[x + 1]
            smooth = (around + CENTER_WEIGHT * line[x]) / WEIGHTS
            plane[y, x] = min(max(factor * line[x] + rest * smooth, ZERO), TOP)


@njit(cache=True, nogil=True)
def invert(values, threshold):
    """Values that round to `threshold` or more are inverted; flat array."""
    least = np.float32(threshold) - HALF
    for i in range(values.shape[0]):
        v = values[i]
        values[i] = TOP - v if v >= least else v


@njit(cache=True, nogil=True)
def autocontrast(values):
    """The least value of a plane becomes 0, the largest 255; one value alone stays. Flat array."""
    low, high = values[0], values[0]
    for i in range(values.shape[0]):
        low, high = min(low, values[i]), max(high, values[i])
    if high > low:
        scale = TOP / (high - low)
        for i in range(values.shape[0]):
            values[i] = min(max((values[i] - low) * scale, ZERO), TOP)


@njit(nogil=True)
def enhance(planes, spare, parameters):
    """Apply a `Draw`'s posterise, sharpness, solarise and autocontrast.

    Args:
        spare: float32 (>= S S,).
    """
    size = planes.shape[1]
    for c in range(planes.shape[0]):
        flat = planes[c].reshape(size * size)
        if parameters.bits > 0:
            posterize(flat, parameters.bits)
        if parameters.sharpness != 1.0:
            adjust_sharpness(planes[c], spare, parameters.sharpness)
        if parameters.invert < 256:
            invert(flat, parameters.invert)
        if parameters.autocontrast:
            autocontrast(flat)
