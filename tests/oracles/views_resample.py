"""Antialiased resampling from its definition, in float64, one output pixel at a time."""

from __future__ import annotations

import math

import numpy as np


def cubic(x: float, a: float = -0.5) -> float:
    """Keys (1981): the cubic convolution kernel."""
    x = abs(x)
    if x <= 1:
        return (a + 2) * x**3 - (a + 3) * x**2 + 1
    if x < 2:
        return a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a
    return 0.0


def triangle(x: float) -> float:
    return max(0.0, 1.0 - abs(x))


def resample_axis(image: np.ndarray, start: float, length: float, size: int, kernel: str) -> np.ndarray:
    """Resample axis 0 of (n, ...): output pixel i covers [start + i s, start + (i + 1) s), s = length / size.

    Every source pixel of `image` whose centre lies within the stretched filter's support contributes.
    """
    function, support = (cubic, 2.0) if kernel == "bicubic" else (triangle, 1.0)
    scale = length / size
    stretch = max(1.0, scale)
    out = np.zeros((size, *image.shape[1:]))
    for i in range(size):
        center = start + (i + 0.5) * scale
        pairs = [
            (x, function((x + 0.5 - center) / stretch))
            for x in range(len(image))
            if abs(x + 0.5 - center) <= support * stretch
        ]
        total = math.fsum(weight for _, weight in pairs)
        for x, weight in pairs:
            out[i] += weight / total * image[x]
    return out


def crop_resize(image: np.ndarray, top: int, left: int, height: int, width: int, size: int, kernel: str) -> np.ndarray:
    """Crop first, then resize to (size, size), clamped; (H, W, C) -> float64 (size, size, C)."""
    crop = image[top : top + height, left : left + width].astype(np.float64)
    rows = resample_axis(crop, 0.0, height, size, kernel)
    return np.clip(resample_axis(rows.swapaxes(0, 1), 0.0, width, size, kernel).swapaxes(0, 1), 0, 255)


def resize_center(image: np.ndarray, resize: int, crop: int, kernel: str) -> np.ndarray:
    """The whole image resized, shorter side to `resize`, then its central (crop, crop); float64."""
    height, width = image.shape[:2]
    short, long = min(height, width), max(height, width)
    other = int(resize * long / short)
    new_height, new_width = (resize, other) if height <= width else (other, resize)
    rows = resample_axis(image.astype(np.float64), 0.0, height, new_height, kernel)
    whole = resample_axis(rows.swapaxes(0, 1), 0.0, width, new_width, kernel).swapaxes(0, 1)
    top, left = round((new_height - crop) / 2), round((new_width - crop) / 2)
    return np.clip(whole[top : top + crop, left : left + crop], 0, 255)
