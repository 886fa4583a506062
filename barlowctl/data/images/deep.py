"""Values of more than 8 bits, as a file holds them, and what those of a sample of images come to."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

DEPTHS = (8, 10, 12, 14, 16)  # bits that devices have


@dataclass(frozen=True)
class Deep:
    """Values as a file holds them, not yet 8 bits.

    values: (H, W) or (H, W, C), whole numbers or floats.    kind: whose range is one: "uint16".
    bits: how many bits of them are used where the file says so for certain; 0: not said.
    significant: PNG's sBIT; its writer either scaled values to the whole type, as the standard asks, or did not.
    white: the largest value, where the file says it and it is not that of a number of bits; 0: not said.
    nodata: the value that stands for nothing (GDAL's tag): it does not count, and is black.
    """

    values: np.ndarray
    kind: str
    bits: int = 0
    significant: int = 0
    white: int = 0
    nodata: float | None = None

    @property
    def bands(self) -> int:
        """Of an image of one alone 1."""
        return 1 if self.values.ndim == 2 else self.values.shape[2]


@dataclass
class Measured:
    """Smallest and largest value of a kind in a sample, whether all are whole numbers, and of how many images."""

    low: float
    high: float
    whole: bool
    images: int = 1

    @classmethod
    def of(cls, values: np.ndarray, nodata: float | None = None) -> Measured:
        """Of one image; not-a-number, infinite values and `nodata` do not count."""
        if nodata is not None and not (values := values[values != nodata]).size:
            return cls(0.0, 0.0, True)
        if values.dtype.kind == "f":
            finite = values[np.isfinite(values)]
            whole = bool((finite == np.rint(finite)).all())
            return cls(float(finite.min()), float(finite.max()), whole) if finite.size else cls(0.0, 0.0, True)
        return cls(float(values.min()), float(values.max()), True)

    def join(self, other: Measured) -> None:
        """Add another image."""
        self.low, self.high = min(self.low, other.low), max(self.high, other.high)
        self.whole, self.images = self.whole and other.whole, self.images + other.images


def kind_of(deep: Deep) -> str:
    """What has one range: the type, and the bits that a file states."""
    if deep.bits:
        return f"{deep.kind} ({deep.bits} bits)"
    return f"{deep.kind} ({deep.significant} significant bits)" if deep.significant else deep.kind
