"""The values of each band over the images of a sample: where the ends of its own range lie."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from barlowctl.value_ranges import Ends

LEFT_OUT = 0.001
"""Of a band's values so many are darker than its black, and as many brighter than its white: single pixels of glare,
clouds or defects would take most of the 256 levels."""

_VALUES = 1 << 16  # of one image, of all its bands together; 256 images of 64 bands of 16 bits then take 34 MB


@dataclass
class BandValues:
    """Values of some pixels of each image, the same ones each time.

    Attributes:
        bands: of an image; 0 until there is one.
    """

    bands: int = 0
    _parts: list[np.ndarray] = field(default_factory=list, repr=False)

    def add(self, values: np.ndarray, nodata: float | None = None) -> None:
        """Add an image, (H, W) or (H, W, C). One of another number of bands than the first is left out: it is refused
        when it is read. Values that stand for nothing (`nodata`, not-a-number, infinite) do not count.
        """
        pixels = values.reshape(values.shape[0] * values.shape[1], -1)
        self.bands = self.bands or pixels.shape[1]
        if pixels.shape[1] != self.bands or not len(pixels):
            return
        if len(pixels) > (most := max(1, _VALUES // self.bands)):
            pixels = pixels[np.random.default_rng(0).integers(0, len(pixels), most)]
        self._parts.append(_without(pixels, nodata))

    def ends(self) -> tuple[Ends, ...]:
        """Black and white of each band: `LEFT_OUT` of its values are darker, and as many brighter."""
        together = np.concatenate(self._parts)
        return tuple(_ends(together[:, band]) for band in range(self.bands))


def _without(pixels: np.ndarray, nodata: float | None) -> np.ndarray:
    """Pixels as floats, not-a-number where one stands for nothing; whole numbers without such stay as they are."""
    if pixels.dtype.kind == "f":
        finite = np.where(np.isfinite(pixels), pixels, np.nan)
        return finite if nodata is None else np.where(pixels == nodata, np.nan, finite)
    if nodata is None or not (missing := pixels == nodata).any():
        return pixels.copy()
    return np.where(missing, np.nan, pixels.astype(np.float64))


def _ends(values: np.ndarray) -> Ends:
    if values.dtype.kind == "f":
        values = values[np.isfinite(values)]
    if not values.size:
        return 0.0, 1.0
    low, high = (float(f"{end:.6g}") for end in np.quantile(values, [LEFT_OUT, 1 - LEFT_OUT], method="nearest"))
    return (low, high) if low < high else (low, low + 1)
