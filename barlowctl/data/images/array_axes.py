"""The axes of an image in an array: height x width, or with its bands as the last axis or the first."""

from __future__ import annotations

import io

import numpy as np


def bands_of(shape: tuple[int, ...]) -> int:
    """How many bands an image of three axes has, the shorter of the first and the last; 0: these are as long."""
    return 0 if shape[0] == shape[-1] else min(shape[0], shape[-1])


def bands_last(values: np.ndarray) -> np.ndarray:
    """(H, W) or (H, W, C) of an image."""
    return np.moveaxis(values, 0, -1) if values.ndim == 3 and values.shape[0] < values.shape[-1] else values


def without_a_single_band(values: np.ndarray) -> np.ndarray:
    """(H, W, 1) as (H, W), and others as they are."""
    return values[..., 0] if values.ndim == 3 and values.shape[2] == 1 else values


def stored(values: np.ndarray) -> bytes | np.ndarray:
    """An image as a source gives it: pixels of 8 bits as they are, else the `.npy` file that `numpy_array` reads."""
    if values.dtype == np.uint8 and (values.ndim == 2 or (values.ndim == 3 and bands_of(values.shape) in (1, 3))):
        return np.ascontiguousarray(without_a_single_band(bands_last(values)))
    stream = io.BytesIO()
    np.save(stream, values, allow_pickle=False)
    return stream.getvalue()
