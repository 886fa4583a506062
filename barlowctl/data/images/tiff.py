"""TIFF files that Pillow does not read, or not in full: more than 8 bits, floats, more than three bands (TIFF 6.0).

Through tifffile (github.com/cgohlke/tifffile). What Pillow reads in full is left to it: 8 bits of
grey, RGB, palettes and CMYK.
"""

from __future__ import annotations

import io
import logging
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from barlowctl.amounts import counted
from barlowctl.channels import are_bands, in_words
from barlowctl.data.images.band_choice import no_such_band, unnamed
from barlowctl.data.images.deep import DEPTHS, Deep
from barlowctl.data.images.limits import check_bytes
from barlowctl.data.images.tiff_stack import Stack, stack_of
from barlowctl.data.images.unreadable import Unreadable
from barlowctl.errors import UserError
from barlowctl.packages import required

_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
PHOTOMETRIC = 262
WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB = 0, 1, 2
_ASSOCIATED, _UNASSOCIATED = 1, 2  # ExtraSamples: alpha, premultiplied or not
_ORIENTATION, _LARGEST = 274, 281  # tags
NODATA = 42113  # GDAL's


@dataclass
class Tiff:
    """The first picture of a file, as it lies: values (H, W) or (H, W, C); see `pixels.Parts`."""

    values: np.ndarray | Deep
    alpha: np.ndarray | None
    premultiplied: bool
    inverted: bool
    orientation: int
    notes: list[str] = field(default_factory=list)
    bands: int = 0


def is_tiff(data: bytes) -> bool:
    """By its first bytes."""
    return data[:4] in _STARTS


def read(data: bytes, bands: tuple[int, ...]) -> Tiff | None:
    """A TIFF that tifffile reads better than Pillow; None: Pillow's, or no TIFF.

    Args:
        bands: from 1 on, which of more than three are red, green, blue, or which one is grey; empty: as the file says.
            Channels that the file names are bands, at its first depth and time; else pages of one band, all of one size
            and type, are bands where any are chosen. Two, or more than three, are channels of their own, of whatever
            the file has.

    Raises:
        Unreadable: too large, bands that are not named, or a compression whose package is not installed.
    """
    if not is_tiff(data):
        return None
    import tifffile

    logging.getLogger("tifffile").addHandler(logging.NullHandler())
    try:
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            page: Any = file.pages[0]
            stack = stack_of(file, data)
            if stack.channels:
                return _of_channels(stack, bands)
            if bands and (pages := _pages_as_bands(file)):
                return _of_pages(pages, bands)
            if _is_pillows(page) and not (are_bands(len(bands or (0,))) and page.dtype is not None):
                return None
            check_bytes(page.imagewidth, page.imagelength, page.samplesperpixel, np.dtype(page.dtype).itemsize)
            several = stack.more or _has_another(file)
            chosen, alpha, notes = _chosen(page, bands)
            values = _values(page)
    except Unreadable:
        raise
    except Exception:  # damaged, or of a kind that it does not know: Pillow says what it is
        return None
    if values is None:
        if page.samplesperpixel in (1, 3) or (page.samplesperpixel == 4 and alpha is not None):
            return None  # Pillow has a decoder, or says what is wrong
        raise Unreadable(f"{_described(page)}, {_why_not(page)}")
    if values.dtype.kind not in "uif":
        raise Unreadable(f"{_described(page)}, which are no levels of brightness; convert it")
    kind = page.extrasamples[alpha - page.samplesperpixel] if alpha is not None else 0
    taken = values[..., chosen[0]] if len(chosen) == 1 else values[..., list(chosen)]
    return Tiff(
        _values_or_deep(taken, page),
        None if alpha is None else np.ascontiguousarray(_native(values[..., alpha])),
        int(kind) == _ASSOCIATED,
        int(page.photometric) == WHITE_IS_ZERO,
        _orientation(page),
        [*notes, *(["first of several pictures"] if several else [])],
        int(page.samplesperpixel) - (alpha is not None),
    )


def _pages_as_bands(file: Any) -> list[Any]:
    """All pages, where there are several of one band each, alike in size and type; else none."""
    if file.pages[0].samplesperpixel != 1 or file.pages[0].dtype is None or not _has_another(file):
        return []
    pages = list(file.pages)
    kinds = {(page.imagewidth, page.imagelength, page.samplesperpixel, page.dtype) for page in pages}
    return pages if len(kinds) == 1 else []


def _of_channels(stack: Stack, bands: tuple[int, ...]) -> Tiff:
    """The picture whose bands are the channels that a file names: three are colours unless others are chosen."""
    count = len(stack.channels)
    if not bands and count != 3:
        raise unnamed(_pages_described(stack.channels, "channels"), count)
    picture = _of_pages(stack.channels, bands or (1, 2, 3), "channels")
    if not bands:
        picture.notes[:] = ["3 bands as red, green, blue"]
    picture.notes.extend(["first of several pictures"] if stack.more else [])
    return picture


def _pages_described(pages: list[Any], called: str) -> str:
    return f"a TIFF of {len(pages)} {called} of {np.dtype(pages[0].dtype).name}"


def _of_pages(pages: list[Any], bands: tuple[int, ...], called: str = "pages") -> Tiff:
    """The picture whose bands are pages."""
    first = pages[0]
    described = _pages_described(pages, called)
    if max(bands) > len(pages):
        raise no_such_band(described, max(bands))
    check_bytes(first.imagewidth, first.imagelength, len(bands), np.dtype(first.dtype).itemsize)
    read = [values[..., 0] for band in bands if (values := _values(pages[band - 1])) is not None]
    if len(read) < len(bands):
        raise Unreadable(f"{described}, {_why_not(first)}")
    if read[0].dtype.kind not in "uif":
        raise Unreadable(f"{described}, which are no levels of brightness; convert it")
    return Tiff(
        _values_or_deep(read[0] if len(read) == 1 else np.stack(read, axis=-1), first),
        None,
        False,
        int(first.photometric) == WHITE_IS_ZERO,
        _orientation(first),
        [f"bands {in_words(bands)} of {len(pages)} {called}"],
        len(pages),
    )


def _values_or_deep(picture: np.ndarray, page: Any) -> np.ndarray | Deep:
    picture = np.ascontiguousarray(picture)
    return picture if picture.dtype == np.uint8 else _deep(picture, page)


def _orientation(page: Any) -> int:
    orientation = _tag(page, _ORIENTATION, 1)
    return orientation if 1 <= orientation <= 8 else 1


def _deep(picture: np.ndarray, page: Any) -> Deep:
    tag = page.tags.get(NODATA)
    missing = nodata(None if tag is None else tag.value, picture.dtype)
    return Deep(_native(picture), picture.dtype.name, _stated_bits(page), nodata=missing)


def nodata(text: object, dtype: np.dtype) -> float | None:
    """The value of a type that stands for nothing, from GDAL's tag ("-9999"); None: there is none."""
    try:
        value = float(str(text).strip(" \0"))
        own = np.array([value]).astype(dtype)[0] if dtype.kind == "f" else value
        if dtype.kind != "f" and not (np.iinfo(dtype).min <= value <= np.iinfo(dtype).max):
            return None
    except (ValueError, OverflowError):
        return None
    return float(own) if np.isfinite(own) else None


def _has_another(file: Any) -> bool:
    """Whether there is a second picture; a stack's other pages are not looked for."""
    try:
        return file.pages[1] is not None
    except IndexError:
        return False


def holds_more_than_8_bits(data: bytes) -> bool:
    """Whether a TIFF's first picture has values beyond 8 bits, by its header."""
    import tifffile

    try:
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            return bool(np.dtype(file.pages[0].dtype) != np.uint8)
    except Exception:
        return True  # whoever decodes it will see


def _is_pillows(page: Any) -> bool:
    """Whether Pillow reads all of it: at most 8 bits, and grey, RGB, alpha, or colours that tifffile leaves alone."""
    if page.dtype is None or (page.is_tiled and page.imagedepth > 1):
        return page.dtype is None
    photometric = int(page.photometric)
    if photometric not in (WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB) or np.dtype(page.dtype).kind == "b":
        return True
    if np.dtype(page.dtype) != np.uint8 or page.bitspersample > 8:
        return False
    extras = [int(extra) for extra in page.extrasamples]
    colours = page.samplesperpixel - len(extras)
    return colours in (1, 3) and (not extras or (len(extras) == 1 and extras[0] in (_ASSOCIATED, _UNASSOCIATED)))


def _chosen(page: Any, bands: tuple[int, ...]) -> tuple[tuple[int, ...], int | None, list[str]]:
    """Positions of the bands that are shown, that of alpha, and what is to be said."""
    count = int(page.samplesperpixel)
    extras = [int(extra) for extra in page.extrasamples]
    first = count - len(extras)
    alpha = next((first + at for at, extra in enumerate(extras) if extra in (_ASSOCIATED, _UNASSOCIATED)), None)
    colours = [band for band in range(count) if band != alpha]
    if not colours:
        raise Unreadable(f"{_described(page)}, none of which is grey or a colour")
    if bands and are_bands(len(bands)):
        alpha, colours = None, []
    if len(colours) in (1, 3):
        named = len(colours) == 1 or int(page.photometric) == _RGB
        return tuple(colours), alpha, [] if named else ["3 bands as red, green, blue"]
    if bands:
        if max(bands) > count:
            raise no_such_band(_described(page), max(bands))
        return tuple(band - 1 for band in bands), alpha, [f"bands {in_words(bands)} of {count}"]
    if int(page.photometric) == _RGB and first >= 3:
        return tuple(colours[:3]), alpha, [f"first 3 of {count} bands"]
    raise unnamed(_described(page), count)


def _values(page: Any) -> np.ndarray | None:
    """(H, W, bands) as the file holds them; None: damaged, or a compression that needs another package."""
    try:
        values = np.asarray(page.asarray())
    except Exception:  # of many kinds
        return None
    if values.size == 0:
        return None
    if "S" in page.axes:
        return np.moveaxis(values, page.axes.index("S"), -1)
    return values[..., None]


def _why_not(page: Any) -> str:
    """Why a file of many bands could not be decoded."""
    compression = getattr(page.compression, "name", str(page.compression))
    here = ("NONE", "PACKBITS", "DEFLATE", "ADOBE_DEFLATE", "LZMA")
    if compression in here:
        return "cut short or damaged"
    try:
        required(f"compressed with {compression}, which needs the package imagecodecs", "imagecodecs", extra="tiff")
    except UserError as error:
        return f"{error.message}: {error.next}"
    return "cut short or damaged"


def _stated_bits(page: Any) -> int:
    """Bits that hold values for certain: BitsPerSample below the type's, or a MaxSampleValue that is 2^n - 1."""
    dtype = np.dtype(page.dtype)
    if dtype.kind != "u":
        return 0
    if page.bitspersample < 8 * dtype.itemsize:
        return int(page.bitspersample)
    largest = _tag(page, _LARGEST, 0)
    return next((bits for bits in DEPTHS if largest == 2**bits - 1 and bits < 8 * dtype.itemsize), 0)


def _tag(page: Any, code: int, default: int) -> int:
    tag = page.tags.get(code)
    value = default if tag is None else tag.value
    value = max(value) if isinstance(value, tuple) and value else value
    return int(value) if isinstance(value, int) else default


def _native(values: np.ndarray) -> np.ndarray:
    return values.astype(values.dtype.newbyteorder("="), copy=False)


def _described(page: Any) -> str:
    return f"a TIFF of {counted(page.samplesperpixel, 'band')} of {np.dtype(page.dtype).name}"
