"""NumPy's files of one array (`.npy`): one image, grey or of any number of bands. Pickled objects are never loaded."""

from __future__ import annotations

import io

import numpy as np

from barlowctl.amounts import counted
from barlowctl.channels import are_bands, in_words
from barlowctl.data.images import formats
from barlowctl.data.images.array_axes import bands_last, bands_of, without_a_single_band
from barlowctl.data.images.band_choice import no_such_band, unnamed
from barlowctl.data.images.deep import Deep
from barlowctl.data.images.limits import check_bytes
from barlowctl.data.images.parts import Parts
from barlowctl.data.images.unreadable import Unreadable


def read(data: bytes, bands: tuple[int, ...]) -> Parts | None:
    """The image in an array: height x width, or with its bands as the last axis or the first, whichever is shorter.

    Args:
        bands: as of `tiff.read`.

    Returns:
        None: it is no such file.

    Raises:
        Unreadable: no image has that shape or type, or bands that are not named.
        ValueError: damaged.
    """
    if formats.by_content(data[: formats.HEAD]) is not formats.NUMPY:
        return None
    try:
        values = np.load(io.BytesIO(data), allow_pickle=False)
    except ValueError as error:
        if "allow_pickle" in str(error):
            raise Unreadable("an array of Python objects, which are not loaded: they could run code") from error
        raise
    return _picture(values, bands)


def _picture(values: np.ndarray, bands: tuple[int, ...]) -> Parts:
    described = f"an array of {' x '.join(map(str, values.shape)) or 'one number'} {values.dtype.name}"
    if values.dtype.kind not in "buif":
        raise Unreadable(f"{described}, which are no levels of brightness")
    if values.ndim not in (2, 3):
        raise Unreadable(f"{described}; an image is height x width, or with its bands as the first or the last axis")
    if values.ndim == 3 and not bands_of(values.shape):
        raise Unreadable(f"{described}: bands are the shorter of the first and the last axis, and these are as long")
    return picture(bands_last(values), bands, described)


def picture(values: np.ndarray, bands: tuple[int, ...], described: str) -> Parts:
    """Numbers of any type as an image.

    Args:
        values: (H, W) or (H, W, C).    bands: as of `read`.    described: what they are, for messages.

    Raises:
        Unreadable: as `read`.
    """
    count = 1 if values.ndim == 2 else values.shape[2]
    check_bytes(values.shape[1], values.shape[0], count, values.dtype.itemsize)
    chosen, notes = _chosen(count, bands, described)
    taken = without_a_single_band(
        values if chosen is None else values.reshape(*values.shape[:2], count)[..., list(chosen)]
    )
    return Parts(_values(taken), notes=notes, bands=count)


def _chosen(count: int, bands: tuple[int, ...], described: str) -> tuple[tuple[int, ...] | None, list[str]]:
    """Positions of the bands that are read, None for all, and what is to be said."""
    if count in (1, 3) and not are_bands(len(bands or (0,))):
        return None, ["3 bands as red, green, blue"] if count == 3 else []
    if not bands:
        raise unnamed(f"{described}, {counted(count, 'band')}", count)
    if max(bands) > count:
        raise no_such_band(described, max(bands))
    return tuple(band - 1 for band in bands), [f"bands {in_words(bands)} of {count}"]


def _values(taken: np.ndarray) -> np.ndarray | Deep:
    if taken.dtype.kind == "b":
        return np.ascontiguousarray(taken).astype(np.uint8) * np.uint8(255)
    native = np.ascontiguousarray(taken.astype(taken.dtype.newbyteorder("="), copy=False))
    return native if native.dtype == np.uint8 else Deep(native, native.dtype.name)
