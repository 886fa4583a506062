"""FITS images (FITS 4.0): the first picture of a file, in the values that its header means, with its bands.

Decoding is astropy's, with BSCALE and BZERO. Rows go from the bottom to the top, as the standard recommends (4.4.2) and
viewers have it: the first row of the file is the lowest of the picture. Directions on the sky (WCS) are not heeded.
"""

from __future__ import annotations

import gzip
import io
import warnings
from dataclasses import replace
from typing import Any

import numpy as np

from barlowctl.channels import in_words
from barlowctl.data.images import formats, numpy_array, readers
from barlowctl.data.images.band_choice import no_such_band
from barlowctl.data.images.deep import Deep
from barlowctl.data.images.limits import MAX_BYTES, check_bytes
from barlowctl.data.images.parts import Parts
from barlowctl.data.images.unreadable import Unreadable

_GZIP = b"\x1f\x8b"
_SHORT = 4  # entries of a first axis that may be of bands: colours, written by programs whose arrays end with them
_SILENT = r"astropy\."


def read(data: bytes, bands: tuple[int, ...]) -> Parts | None:
    """The picture in a FITS file, compressed by gzip or in itself (`.fits.fz`); None: it is none.

    Args:
        bands: as of `tiff.read`: where any are chosen, pictures of one band each, all of one size and type, are bands.

    Raises:
        Unreadable: astropy is not installed, the file has no picture (tables), is cut short, has more than three axes,
            or bands that are not named.
    """
    if (content := _content(data)) is None:
        return None
    if not readers.has_astropy():
        raise Unreadable(formats.why_unreadable(content))
    from astropy.io import fits

    warnings.filterwarnings("ignore", category=Warning, module=_SILENT)
    with fits.open(io.BytesIO(content), memmap=False, character_as_bytes=True) as file:
        pictures = [part for part in file if part.is_image and len(part.shape) >= 2 and np.prod(part.shape)]
        if not pictures:
            kinds = ", ".join(dict.fromkeys(type(part).__name__ for part in file))
            raise Unreadable(f"a FITS file without a picture ({kinds}): a catalogue or spectrum")
        if bands and _are_bands(pictures):
            return _of_parts(file, pictures, content, bands)
        first = pictures[0]
        described = f"a FITS image of {' x '.join(map(str, first.shape))}"
        shape = _without_single(first.shape)
        if len(shape) > 3:
            raise Unreadable(f"{described}; an image is height x width, or bands x height x width")
        of_bands, (height, width) = _axes(shape)
        check_bytes(width, height, of_bands, 8)
        try:
            values, missing = _values(first, content, list(file).index(first))
        except TypeError as error:  # "buffer is too small"
            raise Unreadable(f"{described}, cut short or damaged") from error
    values = values.reshape(shape)
    parts = numpy_array.picture(_bands_last(values)[::-1], bands, f"{described} {values.dtype.name}")
    if missing is not None:
        parts = _without(parts, missing)
    return replace(parts, notes=[*parts.notes, *(["first of several pictures"] if pictures[1:] else [])])


def _are_bands(pictures: list[Any]) -> bool:
    """Whether a file has several pictures of one band each, alike in size and type."""
    shapes = {(_without_single(part.shape), part.header["BITPIX"]) for part in pictures}
    return len(pictures) > 1 and len(shapes) == 1 and len(_without_single(pictures[0].shape)) == 2


def _of_parts(file: Any, pictures: list[Any], content: bytes, bands: tuple[int, ...]) -> Parts:
    """The picture whose bands are those of several parts, in their order."""
    described, (height, width) = f"a FITS file of {len(pictures)} images", _without_single(pictures[0].shape)
    if max(bands) > len(pictures):
        raise no_such_band(described, max(bands))
    check_bytes(width, height, len(bands), 8)
    positions = list(file)
    try:
        read = [_values(part, content, positions.index(part)) for part in (pictures[band - 1] for band in bands)]
        if len({missing for _, missing in read}) > 1:  # then not-a-number, in all of them
            read = [(np.asarray(pictures[band - 1].data), None) for band in bands]
    except TypeError as error:  # "buffer is too small"
        raise Unreadable(f"{described}, cut short or damaged") from error
    if len({values.dtype for values, _ in read}) > 1:
        raise Unreadable(f"{described}, whose values are of several types")
    values = np.stack([values.reshape(height, width) for values, _ in read], axis=-1)
    parts = numpy_array.picture(values[::-1], tuple(range(1, len(bands) + 1)), described)
    if (missing := read[0][1]) is not None:
        parts = _without(parts, missing)
    return replace(parts, notes=[f"bands {in_words(bands)} of {len(pictures)} images"], bands=len(pictures))


def _without(parts: Parts, missing: float) -> Parts:
    """Where a value stands for nothing."""
    held = parts.values.values if isinstance(parts.values, Deep) else parts.values
    return replace(parts, values=Deep(held, held.dtype.name, nodata=missing))


def _content(data: bytes) -> bytes | None:
    """The file itself, unpacked; None: it is no FITS file."""
    if formats.by_content(data[: formats.HEAD]) is formats.FITS:
        return data
    if not data.startswith(_GZIP) or not formats.is_fits(start_within(data)):
        return None
    with gzip.open(io.BytesIO(data)) as stream:
        content = stream.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise Unreadable(f"a FITS file of more than {MAX_BYTES >> 30} GiB, compressed by gzip")
    return content


def start_within(data: bytes) -> bytes:
    """The first bytes of what gzip compressed; b"" where it is damaged."""
    try:
        with gzip.open(io.BytesIO(data)) as stream:
            return stream.read(formats.HEAD)
    except (OSError, EOFError, ValueError):
        return b""


def _without_single(shape: tuple[int, ...]) -> tuple[int, ...]:
    """A shape without leading axes of one entry beyond three: of radio images, frequency and polarisation."""
    while len(shape) > 2 and shape[0] == 1:
        shape = shape[1:]
    return shape


def _axes(shape: tuple[int, ...]) -> tuple[int, tuple[int, int]]:
    """Number of bands, and (height, width)."""
    if len(shape) == 2:
        return 1, (shape[0], shape[1])
    return (shape[2], (shape[0], shape[1])) if _ends_with_bands(shape) else (shape[0], (shape[1], shape[2]))


def _ends_with_bands(shape: tuple[int, ...]) -> bool:
    """FITS has bands as the third axis, NumPy's first; only a first axis of colours beside a long third one is them."""
    return len(shape) == 3 and shape[2] <= _SHORT < shape[0]


def _bands_last(values: np.ndarray) -> np.ndarray:
    return values if values.ndim == 2 or _ends_with_bands(values.shape) else np.moveaxis(values, 0, -1)


def _values(part: Any, content: bytes, position: int) -> tuple[np.ndarray, float | None]:
    """The values of a picture, and the one that stands for nothing (BLANK) where they stay whole numbers.

    astropy makes floats of whole numbers where BLANK is there, with not-a-number in its place: files with it and files
    without it would be of two types, and of two ranges.
    """
    header = part.header
    blank, scale, zero = header.get("BLANK"), header.get("BSCALE", 1), header.get("BZERO", 0)
    if blank is None or header["BITPIX"] < 0 or (scale, zero) != (1, 0) or type(part).__name__ == "CompImageHDU":
        return np.asarray(part.data), None
    from astropy.io import fits

    with fits.open(io.BytesIO(content), memmap=False, do_not_scale_image_data=True) as file:
        return np.asarray(file[position].data), float(blank)
