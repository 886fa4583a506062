"""From the bytes of any image file to upright 8-bit pixels: the one way that packing, training and measuring share."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from barlowctl.amounts import counted
from barlowctl.data.images import dicom, fits, jpeg, netpbm, numpy_array, pillow_reader, tiff, transparency
from barlowctl.data.images.conversion import Conversion
from barlowctl.data.images.deep import Deep
from barlowctl.data.images.limits import check_size
from barlowctl.data.images.parts import Parts, turned
from barlowctl.data.images.ranges import Range
from barlowctl.data.images.unreadable import Unreadable


class Decoded(NamedTuple):
    """pixels: upright, uint8 (H, W) or (H, W, C), see `channels`.    grey: without colour.
    notes: what was done beside decoding.

    bands: see `Parts`.
    """

    pixels: np.ndarray
    grey: bool
    notes: list[str]
    bands: int = 0


def decode_picture(data: bytes, conversion: Conversion | None = None) -> Decoded:
    """Upright pixels of an encoded image.

    Rotation in EXIF data is applied; more than 8 bits, transparency and more than three bands become what `conversion`
    says; palettes and CMYK become RGB; of an animation the first picture is taken.

    Args:
        conversion: of the data set that the image is from; None: the defaults, with this image alone as the sample.

    Raises:
        Unreadable: damaged, of an unknown kind, too large (said before it is decoded), of other bands than those that
            were chosen, or a choice is missing.
    """
    conversion = conversion or Conversion()
    return _finished(read_parts(data, conversion.choices.bands), conversion)


def convert_values(values: np.ndarray, conversion: Conversion) -> Decoded:
    """The same for an image that is an array already: (H, W) or (H, W, 3) of any type.

    Raises:
        Unreadable: it is too large, or its range is not known.
    """
    check_size(values.shape[1], values.shape[0])
    parts = Parts(values if values.dtype == np.uint8 else Deep(values, values.dtype.name))
    return _finished(parts, conversion)


def read_parts(data: bytes, bands: tuple[int, ...] = ()) -> Parts:
    """What an encoded image holds, upright. Raises `Unreadable`."""
    if frame := jpeg.frame(data):
        jpeg.check(data, frame[0], frame[2], frame[3])
    try:
        if (picture := dicom.read(data)) is not None:
            return picture
        if (array := numpy_array.read(data, bands)) is not None:
            return array
        if (exposure := fits.read(data, bands)) is not None:
            return exposure
        if (page := tiff.read(data, bands)) is not None:
            values, alpha, orientation = page.values, page.alpha, page.orientation
            return Parts(
                replace(values, values=turned(values.values, orientation))
                if isinstance(values, Deep)
                else turned(values, orientation),
                None if alpha is None else turned(alpha, orientation),
                page.premultiplied,
                page.inverted,
                [*page.notes, *(["EXIF rotation"] if orientation != 1 else [])],
                page.bands,
            )
        if (deep := netpbm.read(data)) is not None:
            return Parts(deep)
        return pillow_reader.read(data)
    except Unreadable:
        raise
    except Exception as error:  # decoders raise all kinds of errors for damaged files
        raise Unreadable(str(error) or type(error).__name__) from error


def _finished(parts: Parts, conversion: Conversion) -> Decoded:
    notes = list(parts.notes)
    value_range = None
    if isinstance(parts.values, Deep):
        value_range = conversion.ranges.of(parts.values)
        pixels, cut = value_range.to_8_bits(parts.values.values, parts.values.nodata)
        notes.append(f"{parts.values.kind}, {value_range} as 8 bits")
        if cut:
            notes.append("values cut off")
    else:
        pixels = parts.values
    if parts.inverted:
        pixels = 255 - pixels
        if isinstance(parts.values, Deep) and parts.values.nodata is not None:  # it is black all the same
            pixels[parts.values.values == parts.values.nodata] = 0
    if parts.alpha is not None:
        alpha = _alpha_of_8_bits(parts.alpha, value_range)
        if alpha.min() < 255:
            pixels = _on_background(pixels, alpha, parts.premultiplied, conversion)
            background = conversion.choices.background
            notes.append("transparency ignored" if conversion.background is None else f"transparency on {background}")
    channels, has = conversion.choices.channels, 1 if pixels.ndim == 2 else pixels.shape[2]
    if channels and has != channels:
        raise Unreadable(f"it has {counted(has, 'channel')}, and {channels} bands were chosen")
    return Decoded(pixels, pixels.ndim == 2, notes, parts.bands)


def _on_background(pixels: np.ndarray, alpha: np.ndarray, premultiplied: bool, conversion: Conversion) -> np.ndarray:
    if conversion.background is None:
        return pixels
    if not premultiplied:
        return transparency.composite(pixels, alpha, conversion.background)
    behind = transparency.composite(np.zeros_like(pixels), alpha, conversion.background)
    if behind.ndim > pixels.ndim:
        pixels = pixels[:, :, None]
    return np.minimum(pixels.astype(np.uint16) + behind, 255).astype(np.uint8)


def _alpha_of_8_bits(alpha: np.ndarray, value_range: Range | None) -> np.ndarray:
    """Alpha goes to the end of its type, or to that of the range where it stays below."""
    if alpha.dtype == np.uint8:
        return alpha
    top = 1.0 if alpha.dtype.kind == "f" else float(np.iinfo(alpha.dtype).max)
    if value_range is not None and 0 < alpha.max() <= value_range.high:
        top = min(top, value_range.high)
    return Range(0.0, top, "").to_8_bits(alpha)[0]
