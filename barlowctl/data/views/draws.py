"""The draws of a view: the parameters of its crop and distortions, keyed numbers of its stream (see `streams`).

Each parameter owns its slot, so switching one distortion off leaves the others' values as they were. Any sample's views
can be drawn alone, in any thread, on any rank.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from barlowctl.data.views.spec import CenterSpec, Spec, SquashSpec
from barlowctl.data.views.streams import below, between, stream_key, uniform
from barlowctl.kernel_cache import njit

# The slots of a view's stream; 2 t and 2 t + 1 belong to try t of the crop. They are int64 of NumPy's: for each int of
# Python's that a kernel gives to another one, numba compiles that other one anew.
CROP_TRIES = 10
SLOT_TOP, SLOT_LEFT, SLOT_FLIP, SLOT_JITTER, SLOT_ORDER = np.arange(20, 25)
SLOT_BRIGHTNESS, SLOT_CONTRAST, SLOT_SATURATION, SLOT_HUE = np.arange(25, 29)
SLOT_GRAYSCALE, SLOT_BLUR, SLOT_SIGMA, SLOT_SOLARIZE, SLOT_SUBSTITUTE = np.arange(29, 34)
SLOT_GAMMA, SLOT_ERASE, SLOT_ERASE_AREA, SLOT_ERASE_RATIO, SLOT_ERASE_TOP, SLOT_ERASE_LEFT = np.arange(34, 40)
SLOT_ERASE_LEVEL = np.int64(40)  # and the two after it, one a channel
SLOT_WINDOW_TOP, SLOT_WINDOW_LEFT = np.arange(43, 45)
SLOT_PHOTOMETRIC, SLOT_POSTERIZE, SLOT_SHARPNESS, SLOT_INVERT = np.arange(45, 49)
SLOT_VERTICAL_FLIP, SLOT_ROTATE90, SLOT_TURNS = np.arange(49, 52)

# PIRL's photometric distortions: ranges of vissl's `pil_photometric_transforms_lib.py`, whole numbers with both ends.
FEWEST_BITS, MOST_BITS = 4, 8
SOFTEST, SHARPEST = 0.1, 1.9
NEVER = 256  # as a threshold of solarisation: nothing is inverted

ERASE_RATIO = 2.5  # height / width of an erased rectangle: log-uniform in [1 / ERASE_RATIO, ERASE_RATIO]

# A spec as an array of float64: what kernels read.
CENTER, SIZE, BICUBIC, RESIZE = 0, 1, 2, 3
SCALE_LOW, SCALE_HIGH, RATIO_LOW, RATIO_HIGH = 4, 5, 6, 7
FLIP, JITTER, BRIGHTNESS, CONTRAST, SATURATION, HUE = 8, 9, 10, 11, 12, 13
GRAYSCALE, BLUR, SIGMA_LOW, SIGMA_HIGH, SOLARIZE = 14, 15, 16, 17, 18
GAMMA, ERASE, ERASE_LOW, ERASE_HIGH = 19, 20, 21, 22
BRIGHTNESS_ADDED, GRAYSCALE_FIRST, THRESHOLD, PHOTOMETRIC_P = 23, 24, 25, 26
GRID, CELL, NUMBER = 27, 28, 29  # GRID 0: the view is no patch
VERTICAL_FLIP, ROTATE90 = 30, 31
SPEC_LENGTH = 32
WHOLE = 0.0  # as RESIZE: the whole picture, each axis by itself


class Draw(NamedTuple):
    """The parameters of one view. Crop in source pixels; a factor, gamma or sharpness of 1, a shift, hue, sigma or
    number of bits of 0, an erased height of 0: nothing to do. The erased rectangle is in pixels of the view, levels,
    shift and thresholds in 0..255. The window of a patch begins at (window_top, window_left) of the resized crop.
    Flips come before the `turns`, of 90 degrees each, counterclockwise."""

    top: int
    left: int
    height: int
    width: int
    flip: bool
    jitter: bool
    order: int  # one of 24, a row of photometric.ORDERS
    brightness: float
    contrast: float
    saturation: float
    hue: float
    grayscale: bool
    sigma: float
    solarize: bool
    gamma: float = 1.0
    erase_top: int = 0
    erase_left: int = 0
    erase_height: int = 0
    erase_width: int = 0
    erase_red: float = 0.0
    erase_green: float = 0.0
    erase_blue: float = 0.0
    shift: float = 0.0  # brightness that is added
    grayscale_first: bool = False
    threshold: float = 128.0
    bits: int = 0
    sharpness: float = 1.0
    invert: int = NEVER
    autocontrast: bool = False
    window_top: int = 0
    window_left: int = 0
    vertical_flip: bool = False
    turns: int = 0


GEOMETRIC = ("top", "left", "height", "width", "flip", "window_top", "window_left", "vertical_flip", "turns")
PHOTOMETRIC = np.dtype([(name, np.float64) for name in Draw._fields if name not in GEOMETRIC])
"""A row of `draw_photometric`: what of a `Draw` is left when the crop is made, by the same names."""


def encode(spec: Spec) -> np.ndarray:
    """A spec as the float64 (SPEC_LENGTH,) that kernels read."""
    row = np.zeros(SPEC_LENGTH)
    row[SIZE] = spec.output_size
    row[BICUBIC] = spec.interpolation == "bicubic"
    if isinstance(spec, CenterSpec):
        row[CENTER], row[RESIZE] = 1.0, spec.resize
        return row
    if isinstance(spec, SquashSpec):
        row[CENTER], row[RESIZE] = 1.0, WHOLE
        return row
    row[[SCALE_LOW, SCALE_HIGH]] = spec.crop_scale
    row[[RATIO_LOW, RATIO_HIGH]] = spec.crop_ratio
    row[[FLIP, VERTICAL_FLIP, ROTATE90]] = spec.flip, spec.vertical_flip, spec.rotate90
    row[JITTER], row[GRAYSCALE] = spec.jitter, spec.grayscale
    row[[BRIGHTNESS, CONTRAST]] = spec.brightness, spec.contrast
    row[[SATURATION, HUE]] = spec.saturation, spec.hue
    row[BLUR], row[SOLARIZE] = spec.blur, spec.solarize
    row[[SIGMA_LOW, SIGMA_HIGH]] = spec.blur_sigma
    row[GAMMA], row[ERASE] = spec.gamma, spec.erase
    row[[ERASE_LOW, ERASE_HIGH]] = spec.erase_scale
    row[BRIGHTNESS_ADDED], row[GRAYSCALE_FIRST] = spec.brightness_added, spec.grayscale_first
    row[THRESHOLD], row[PHOTOMETRIC_P] = spec.solarize_threshold, spec.photometric
    if spec.patch is not None:
        row[[GRID, CELL, NUMBER]] = spec.patch.grid, spec.patch.cell, spec.patch.number
    return row


def epoch_order(count: int, seed: int, epoch: int) -> np.ndarray:
    """The order of an epoch: a permutation of range(count), int64, keyed by (seed, epoch)."""
    bits = np.random.Philox(key=np.array([seed, epoch], dtype=np.uint64))
    return np.random.Generator(bits).permutation(count).astype(np.int64, copy=False)


@njit(cache=True, nogil=True)
def draw_crop(spec, key, height, width):
    """(top, left, height, width) as torchvision's RandomResizedCrop.get_params draws them."""
    log_low, log_high = math.log(spec[RATIO_LOW]), math.log(spec[RATIO_HIGH])
    for attempt in range(CROP_TRIES):
        area = height * width * between(key, 2 * attempt, spec[SCALE_LOW], spec[SCALE_HIGH])
        ratio = math.exp(between(key, 2 * attempt + 1, log_low, log_high))
        w = np.int64(np.rint(math.sqrt(area * ratio)))
        h = np.int64(np.rint(math.sqrt(area / ratio)))
        if 0 < w <= width and 0 < h <= height:
            top = below(key, SLOT_TOP, height - h + 1)
            left = below(key, SLOT_LEFT, width - w + 1)
            return top, left, h, w
    w, h = np.int64(width), np.int64(height)
    if width < spec[RATIO_LOW] * height:
        h = max(np.int64(np.rint(width / spec[RATIO_LOW])), np.int64(1))
    elif width > spec[RATIO_HIGH] * height:
        w = max(np.int64(np.rint(height * spec[RATIO_HIGH])), np.int64(1))
    return (height - h) // 2, (width - w) // 2, h, w


@njit(cache=True, nogil=True)
def draw_jitter(spec, key, applied):
    """(brightness, shift, contrast, saturation, hue, gamma); what changes nothing where jitter is not `applied`."""
    if not applied:
        return 1.0, 0.0, 1.0, 1.0, 0.0, 1.0
    brightness, shift = 1.0, 0.0
    if spec[BRIGHTNESS_ADDED] != 0.0:
        shift = 255.0 * between(key, SLOT_BRIGHTNESS, -spec[BRIGHTNESS], spec[BRIGHTNESS])
    else:
        brightness = between(key, SLOT_BRIGHTNESS, max(0.0, 1.0 - spec[BRIGHTNESS]), 1.0 + spec[BRIGHTNESS])
    contrast = between(key, SLOT_CONTRAST, max(0.0, 1.0 - spec[CONTRAST]), 1.0 + spec[CONTRAST])
    saturation = between(key, SLOT_SATURATION, max(0.0, 1.0 - spec[SATURATION]), 1.0 + spec[SATURATION])
    hue = between(key, SLOT_HUE, -spec[HUE], spec[HUE])
    gamma = math.exp(between(key, SLOT_GAMMA, -spec[GAMMA], spec[GAMMA]))
    return brightness, shift, contrast, saturation, hue, gamma


@njit(cache=True, nogil=True)
def draw_erased(spec, key):
    """(top, left, height, width) of the erased rectangle in a view; zeros where nothing is erased.

    Area and ratio as torchvision's RandomErasing draws them. Deviation: a side that does not fit is cut to the
    view's instead of drawn again.
    """
    if uniform(key, SLOT_ERASE) >= spec[ERASE]:
        return 0, 0, 0, 0
    size = np.int64(spec[SIZE])
    area = size * size * between(key, SLOT_ERASE_AREA, spec[ERASE_LOW], spec[ERASE_HIGH])
    ratio = math.exp(between(key, SLOT_ERASE_RATIO, -math.log(ERASE_RATIO), math.log(ERASE_RATIO)))
    height = min(max(np.int64(np.rint(math.sqrt(area * ratio))), 1), size)
    width = min(max(np.int64(np.rint(math.sqrt(area / ratio))), 1), size)
    top = below(key, SLOT_ERASE_TOP, size - height + 1)
    return top, below(key, SLOT_ERASE_LEFT, size - width + 1), height, width


@njit(cache=True, nogil=True)
def draw_window(spec, key):
    """(top, left) of a patch's window in the resized crop; zeros of a view that is none.

    An offset in its cell is below the room that the window leaves, as in vissl's `img_patches_tensor.py`: 0 to 20 for
    64 of 85 pixels.
    """
    if spec[GRID] == 0.0:
        return 0, 0
    grid, cell, number = np.int64(spec[GRID]), np.int64(spec[CELL]), np.int64(spec[NUMBER])
    room = max(cell - np.int64(spec[SIZE]), 1)
    top = number // grid * cell + below(key, SLOT_WINDOW_TOP, room)
    return top, number % grid * cell + below(key, SLOT_WINDOW_LEFT, room)


@njit(cache=True, nogil=True)
def draw_enhancements(spec, key):
    """(bits, sharpness, threshold of solarisation, autocontrast) of PIRL: all, or what changes nothing."""
    if uniform(key, SLOT_PHOTOMETRIC) >= spec[PHOTOMETRIC_P]:
        return np.int64(0), 1.0, np.int64(NEVER), False
    bits = FEWEST_BITS + below(key, SLOT_POSTERIZE, MOST_BITS - FEWEST_BITS + 1)
    return bits, between(key, SLOT_SHARPNESS, SOFTEST, SHARPEST), below(key, SLOT_INVERT, NEVER + 1), True


@njit(cache=True, nogil=True)
def draw(spec, seed, epoch, sample, view, height, width):
    """The parameters of view `view` of sample `sample`, an image of height x width pixels.

    Args:
        spec: `encode(ViewSpec)`. The rest: whole numbers, 0 or more.
    """
    key = stream_key(seed, epoch, sample, view)
    crop_key = key
    if spec[NUMBER] != 0.0:  # a patch: the crop is that of the first one
        crop_key = stream_key(seed, epoch, sample, view - np.int64(spec[NUMBER]))
    top, left, h, w = draw_crop(spec, crop_key, height, width)
    jitter = uniform(key, SLOT_JITTER) < spec[JITTER]
    brightness, shift, contrast, saturation, hue, gamma = draw_jitter(spec, key, jitter)
    sigma = 0.0
    if uniform(key, SLOT_BLUR) < spec[BLUR]:
        sigma = between(key, SLOT_SIGMA, spec[SIGMA_LOW], spec[SIGMA_HIGH])
    erase_top, erase_left, erase_height, erase_width = draw_erased(spec, key)
    bits, sharpness, invert, autocontrast = draw_enhancements(spec, key)
    window_top, window_left = draw_window(spec, key)
    turns = np.int64(0)
    if uniform(key, SLOT_ROTATE90) < spec[ROTATE90]:
        turns = 1 + below(key, SLOT_TURNS, 3)
    return Draw(
        top,
        left,
        h,
        w,
        uniform(key, SLOT_FLIP) < spec[FLIP],
        jitter,
        below(key, SLOT_ORDER, 24),
        brightness,
        contrast,
        saturation,
        hue,
        uniform(key, SLOT_GRAYSCALE) < spec[GRAYSCALE],
        sigma,
        uniform(key, SLOT_SOLARIZE) < spec[SOLARIZE],
        gamma,
        erase_top,
        erase_left,
        erase_height,
        erase_width,
        between(key, SLOT_ERASE_LEVEL, 0.0, 255.0),
        between(key, SLOT_ERASE_LEVEL + 1, 0.0, 255.0),
        between(key, SLOT_ERASE_LEVEL + 2, 0.0, 255.0),
        shift,
        spec[GRAYSCALE_FIRST] != 0.0,
        spec[THRESHOLD],
        bits,
        sharpness,
        invert,
        autocontrast,
        window_top,
        window_left,
        uniform(key, SLOT_VERTICAL_FLIP) < spec[VERTICAL_FLIP],
        turns,
    )


@njit(cache=True, nogil=True)
def draw_photometric(spec, seed, epoch, keys, view, out):
    """The photometric parameters of view `view` of the samples `keys`, one row each.

    Args:
        spec, seed, epoch, view: as in `draw`; keys: int64 (n,).
        out: PHOTOMETRIC (n,), written.
    """
    for i in range(keys.shape[0]):
        drawn = draw(spec, seed, epoch, keys[i], view, 1, 1)  # these draws do not depend on the image's size
        row = out[i]
        row.jitter, row.order = drawn.jitter, drawn.order
        row.brightness, row.contrast = drawn.brightness, drawn.contrast
        row.saturation, row.hue = drawn.saturation, drawn.hue
        row.grayscale, row.sigma, row.solarize, row.gamma = drawn.grayscale, drawn.sigma, drawn.solarize, drawn.gamma
        row.erase_top, row.erase_left = drawn.erase_top, drawn.erase_left
        row.erase_height, row.erase_width = drawn.erase_height, drawn.erase_width
        row.erase_red, row.erase_green, row.erase_blue = drawn.erase_red, drawn.erase_green, drawn.erase_blue
        row.shift, row.grayscale_first, row.threshold = drawn.shift, drawn.grayscale_first, drawn.threshold
        row.bits, row.sharpness = drawn.bits, drawn.sharpness
        row.invert, row.autocontrast = drawn.invert, drawn.autocontrast


def substitute(seed: int, epoch: int, sample: int, attempt: int, count: int) -> int:
    """A position in [0, count) to read instead of an unreadable sample; keyed, so every run agrees."""
    key = np.uint64(stream_key(seed, epoch, sample, attempt))
    return int(below(key, SLOT_SUBSTITUTE, count))
