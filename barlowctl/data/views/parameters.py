"""The draws of a view for a batch of images: one row per image, for the chain on whole batches (`batched`)."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from barlowctl.data.views import draws
from barlowctl.data.views.photometric import ORDERS
from barlowctl.data.views.spec import ViewSpec


@dataclass(frozen=True)
class Parameters:
    """The draws of a view for n images: numpy on the host, where they decide shapes, one row per image.

    steps: int64 (n, 4), which operation of jitter comes when; factors: float32 (n, 4), by operation (hue's is
    its shift in turns); jitter, grayscale, solarize: bool (n,); sigma: float32 (n,), 0 for no blur; gamma:
    float32 (n,); erased: int64 (n, 4), top, left, height, width, zeros for nothing; levels: float32 (n, 3), the
    colour of what is erased, in 0..255; shift: float32 (n,), brightness that is added, 0 for none.
    bits, sharpness, invert: (n,), of PIRL's `photometric.enhance`, for images with bool autocontrast (n,).
    Of the view: grayscale_first; threshold of solarisation; largest_sigma that it can have, so that kernels of all
    batches are equally long.
    """

    steps: np.ndarray
    factors: np.ndarray
    jitter: np.ndarray
    grayscale: np.ndarray
    sigma: np.ndarray
    solarize: np.ndarray
    gamma: np.ndarray
    erased: np.ndarray
    levels: np.ndarray
    shift: np.ndarray
    bits: np.ndarray
    sharpness: np.ndarray
    invert: np.ndarray
    autocontrast: np.ndarray
    grayscale_first: bool
    threshold: float
    largest_sigma: float

    def __len__(self) -> int:
        return len(self.jitter)

    def part(self, low: int, high: int) -> Parameters:
        """Of the images `low` to `high`."""
        values: dict[str, Any] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            values[field.name] = value[low:high] if isinstance(value, np.ndarray) else value
        return Parameters(**values)


def draw_parameters(spec: ViewSpec, seed: int, epoch: int, keys: np.ndarray, view: int) -> Parameters:
    """The photometric draws of view `view` of the samples `keys`, int64 (n,)."""
    rows = np.empty(len(keys), draws.PHOTOMETRIC)
    draws.draw_photometric(draws.encode(spec), seed, epoch, np.ascontiguousarray(keys, dtype=np.int64), view, rows)

    def columns(*names: str, kind: type) -> np.ndarray:
        return np.stack([rows[name] for name in names], axis=1).astype(kind)

    return Parameters(
        steps=ORDERS[rows["order"].astype(np.int64)],
        factors=columns("brightness", "contrast", "saturation", "hue", kind=np.float32),
        jitter=rows["jitter"] > 0,
        grayscale=rows["grayscale"] > 0,
        sigma=rows["sigma"].astype(np.float32),
        solarize=rows["solarize"] > 0,
        gamma=rows["gamma"].astype(np.float32),
        erased=columns("erase_top", "erase_left", "erase_height", "erase_width", kind=np.int64),
        levels=columns("erase_red", "erase_green", "erase_blue", kind=np.float32),
        shift=rows["shift"].astype(np.float32),
        bits=rows["bits"].astype(np.float32),
        sharpness=rows["sharpness"].astype(np.float32),
        invert=rows["invert"].astype(np.float32),
        autocontrast=rows["autocontrast"] > 0,
        grayscale_first=spec.grayscale_first,
        threshold=spec.solarize_threshold,
        largest_sigma=spec.blur_sigma[1],
    )
