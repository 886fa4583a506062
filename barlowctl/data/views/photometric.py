"""The photometric chain of a view: jitter, grayscale, blur, solarise, in the order of the authors' code.

MoCo v1 has grayscale before jitter. PIRL has more between the two (`enhance`): posterise, sharpness, solarise and
autocontrast, Pillow's operations. Pillow has whole levels after each; here values are rounded where that decides what
happens to them (posterise, `invert`), and only there.

Works on planes, float32 (C, S, S) in 0..255, in place, clamped after each operation as torchvision's
float functional does, without intermediate rounding. The two spatial axes may be swapped: no operation
tells them apart. The flip is part of the resampling, which mirrors its columns for nothing.
For C = 1 saturation, hue and grayscale do nothing, as in torchvision; of other numbers of channels than three, too,
and contrast then has the mean of each channel by itself.
"""

from __future__ import annotations

import math

import numpy as np

from barlowctl.data.views.vector import SLACK, copy, sum_lines
from barlowctl.kernel_cache import njit

FAST = {"contract", "nsz"}
REDUCE = {"contract", "nsz", "reassoc"}  # sums in vector lanes; the order is fixed by the compiled code

# Jitter's operations in the 24 orders; an operation is 0 brightness, 1 contrast, 2 saturation, 3 hue.
ORDERS = np.array(
    [(a, b, c, d) for a in range(4) for b in range(4) for c in range(4) for d in range(4) if len({a, b, c, d}) == 4],
    dtype=np.int64,
)

# ITU-R 601 luma as torchvision's rgb_to_grayscale writes it.
RED, GREEN, BLUE = np.float32(0.2989), np.float32(0.587), np.float32(0.114)
ZERO, ONE, TOP = np.float32(0.0), np.float32(1.0), np.float32(255.0)
TWO, FOUR, SIX = np.float32(2.0), np.float32(4.0), np.float32(6.0)
HALF = np.float32(0.5)
CENTER_WEIGHT, WEIGHTS = np.float32(5), np.float32(13)  # of Pillow's SMOOTH: the eight pixels around weigh 1 each


@njit(cache=True, nogil=True, fastmath=FAST)
def scale_and_shift(values, factor, shift):
    """values = clamp(factor values + shift), over a flat array."""
    factor, shift = np.float32(factor), np.float32(shift)
    for i in range(values.shape[0]):
        values[i] = min(max(factor * values[i] + shift, ZERO), TOP)


@njit(cache=True, nogil=True, fastmath=REDUCE)
def mean_gray(planes):
    """The mean of the grey image of planes (3 or 1, S, S), float64; partial sums of one line in float32."""
    channels, size = planes.shape[0], planes.shape[1]
    total = 0.0
    for y in range(size):
        line = ZERO
        if channels == 3:
            r, g, b = planes[0, y], planes[1, y], planes[2, y]
            for x in range(size):
                line += RED * r[x] + GREEN * g[x] + BLUE * b[x]
        else:
            r = planes[0, y]
            for x in range(size):
                line += r[x]
        total += line
    return total / (size * size)


@njit(cache=True, nogil=True, fastmath=FAST)
def adjust_saturation(r, g, b, factor):
    """Blend with the grey image, per pixel; flat planes."""
    factor = np.float32(factor)
    rest = ONE - factor
    for i in range(r.shape[0]):
        gray = rest * (RED * r[i] + GREEN * g[i] + BLUE * b[i])
        r[i] = min(max(factor * r[i] + gray, ZERO), TOP)
        g[i] = min(max(factor * g[i] + gray, ZERO), TOP)
        b[i] = min(max(factor * b[i] + gray, ZERO), TOP)


@njit(cache=True, nogil=True, fastmath=FAST)
def hue_channel(sixths, value, chroma):
    """A channel of HSV's inverse: value - chroma clamp(min(k, 4 - k), 0, 1), k = sixths mod 6."""
    k = sixths - SIX if sixths >= SIX else sixths
    return value - chroma * min(max(min(k, FOUR - k), ZERO), ONE)


@njit(cache=True, nogil=True, fastmath=FAST)
def adjust_hue(r, g, b, shift):
    """Turn the hue by `shift` turns through HSV, per pixel; flat planes.

    The hue is kept in sixths of a turn; saturation and value need no conversion, since HSV's inverse
    is linear in value and chroma = value x saturation.
    """
    turn = np.float32(6.0 * (shift % 1.0))
    for i in range(r.shape[0]):
        red, green, blue = r[i], g[i], b[i]
        value = max(max(red, green), blue)
        chroma = value - min(min(red, green), blue)
        inverse = ONE / (chroma if chroma > ZERO else ONE)
        hue = FOUR + (red - green) * inverse
        hue = TWO + (blue - red) * inverse if green == value else hue
        hue = (green - blue) * inverse if red == value else hue
        hue = hue + turn + (SIX if hue < ZERO else ZERO)
        hue = hue - SIX if hue >= SIX else hue
        r[i] = hue_channel(hue + np.float32(5), value, chroma)
        g[i] = hue_channel(hue + np.float32(3), value, chroma)
        b[i] = hue_channel(hue + np.float32(1), value, chroma)


@njit(cache=True, nogil=True, fastmath=FAST)
def to_gray(r, g, b):
    """All three planes become the grey image; flat planes."""
    for i in range(r.shape[0]):
        gray = RED * r[i] + GREEN * g[i] + BLUE * b[i]
        r[i], g[i], b[i] = gray, gray, gray


@njit(cache=True, nogil=True, fastmath=FAST)
def solarize(values, threshold):
    """Values of `threshold` and more are inverted; flat array."""
    threshold = np.float32(threshold)
    for i in range(values.shape[0]):
        v = values[i]
        values[i] = TOP - v if v >= threshold else v


@njit(cache=True, nogil=True)
def gaussian_weights(sigma, size):
    """The kernel, float32 (2 radius + 1,), radius ceil(3 sigma).

    Deviation: reflection needs radius < size, so the radius is at most size - 1 (torchvision refuses).
    """
    radius = min(np.int64(math.ceil(3.0 * sigma)), size - 1)
    weights = np.empty(2 * radius + 1, np.float32)
    total = 0.0
    for k in range(radius + 1):
        value = math.exp(-0.5 * (k / sigma) ** 2)
        total += value if k == 0 else 2.0 * value
    for k in range(radius + 1):
        weights[radius + k] = weights[radius - k] = math.exp(-0.5 * (k / sigma) ** 2) / total
    return weights


@njit(nogil=True)
def gaussian_blur(plane, spare, sigma):
    """Separable Gaussian blur of one plane (S, S) in place, borders mirrored.

    Args:
        spare: float32 (>= `blur_scratch`,).
    """
    size = plane.shape[0]
    flat = plane.reshape(size * size)
    weights = gaussian_weights(sigma, size)
    taps = weights.shape[0]
    radius = taps // 2
    border = radius * size
    copy(flat, 0, spare, border, size * size)
    for k in range(1, radius + 1):
        copy(flat, k * size, spare, border - k * size, size)
        copy(flat, (size - 1 - k) * size, spare, border + (size - 1 + k) * size, size)
    line = spare[(size + 2 * radius) * size :]
    last = radius + size - 1
    for y in range(size):
        sum_lines(spare, y * size, size, weights, 0, taps, line, radius, size, ZERO, TOP)
        for k in range(1, radius + 1):
            line[radius - k] = line[radius + k]
            line[last + k] = line[last - k]
        sum_lines(line, 0, 1, weights, 0, taps, flat, y * size, size, ZERO, TOP)


def blur_scratch(size: int) -> int:
    """How many float32 `gaussian_blur` needs for planes of this side."""
    return 3 * size * size + 3 * size + SLACK


@njit(cache=True, nogil=True)
def jitter(planes, parameters):
    """Colour jitter's four operations in the drawn order."""
    flat = planes.reshape(planes.shape[0], planes.shape[1] * planes.shape[2])
    colour = planes.shape[0] == 3
    for step in range(4):
        operation = ORDERS[parameters.order, step]
        if operation == 0 and parameters.shift != 0.0:
            for c in range(flat.shape[0]):
                scale_and_shift(flat[c], 1.0, parameters.shift)
        elif operation == 0 and parameters.brightness != 1.0:
            for c in range(flat.shape[0]):
                scale_and_shift(flat[c], parameters.brightness, 0.0)
        elif operation == 1 and parameters.contrast != 1.0:
            together = 3 if colour else 1
            for first in range(0, flat.shape[0], together):
                shift = (1.0 - parameters.contrast) * mean_gray(planes[first : first + together])
                for c in range(first, first + together):
                    scale_and_shift(flat[c], parameters.contrast, shift)
        elif operation == 2 and colour and parameters.saturation != 1.0:
            adjust_saturation(flat[0], flat[1], flat[2], parameters.saturation)
        elif operation == 3 and colour and parameters.hue != 0.0:
            adjust_hue(flat[0], flat[1], flat[2], parameters.hue)


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
    copy(plane.reshape(size * size), 0, spare, 0, size * size)
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


@njit(nogil=True)
def distort(planes, spare, parameters):
    """Apply the photometric chain of a `Draw` to planes (C, S, S) in place; `corruption.corrupt` has what follows it.

    Args:
        spare: float32 (>= `blur_scratch`,).
    """
    flat = planes.reshape(planes.shape[0], planes.shape[1] * planes.shape[2])
    gray = parameters.grayscale and planes.shape[0] == 3
    if gray and parameters.grayscale_first:
        to_gray(flat[0], flat[1], flat[2])
    if parameters.jitter:
        jitter(planes, parameters)
    if parameters.autocontrast:
        enhance(planes, spare, parameters)
    if gray and not parameters.grayscale_first:
        to_gray(flat[0], flat[1], flat[2])
    distinct = 1 if gray else planes.shape[0]  # planes that differ from one another
    if parameters.sigma > 0.0:
        for c in range(distinct):
            gaussian_blur(planes[c], spare, parameters.sigma)
    if parameters.solarize:
        for c in range(distinct):
            solarize(flat[c], parameters.threshold)
    for c in range(distinct, planes.shape[0]):
        copy(flat[0], 0, flat[c], 0, flat.shape[1])
