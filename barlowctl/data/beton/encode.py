"""One picture as it will be stored: JPEG bytes untouched where they fit, else decoded and stored anew.

A JPEG is passed through when libjpeg-turbo, as FFCV uses it, reads it without complaint into upright RGB:
8 bits, Huffman coded, grey or three components, no EXIF rotation. Everything is decoded once in full, so
that what is packed is known to be readable.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np

from barlowctl.channels import are_bands
from barlowctl.data.beton import decode, decoders
from barlowctl.data.beton.layout import JPEG, RAW
from barlowctl.data.images import jpeg
from barlowctl.data.images.brightness import look
from barlowctl.data.images.conversion import Conversion
from barlowctl.data.images.limits import check_size
from barlowctl.data.images.parts import DAMAGED
from barlowctl.data.images.pixels import convert_values, decode_picture
from barlowctl.data.sources.picture import Picture

STORES = ("auto", "jpeg", "raw")
RAW_PIXELS = 128 * 128
"""`auto` stores a decoded image of at most so many pixels raw: 48 KiB, and no loss."""

NOT_JPEG, RESIZED = "not JPEG", "made smaller"  # why bytes are not the source's
_DAMAGED_JPEG = "damaged JPEG"


@dataclass(frozen=True)
class Stored:
    """What goes into the file for one picture.

    payload: a JPEG's bytes, or pixels (H, W, 3) uint8, of bands (H, W, C).    mode: `JPEG` or `RAW`.
    grey: it had no colour.    changed: why its bytes are not the source's ("" where they are).
    damaged: the decoder complained, or a checksum is wrong, although pixels came out.
    looks: "nearly black", "nearly white" or "flat", where it does.    bands: of its file; see `parts.Parts`.
    """

    payload: bytes | np.ndarray
    mode: int
    width: int
    height: int
    grey: bool
    changed: str = ""
    damaged: bool = False
    looks: str = ""
    bands: int = 0


def encode(
    picture: Picture,
    *,
    store: str = "auto",
    quality: int = 95,
    shorter_side: int | None = None,
    conversion: Conversion | None = None,
) -> Stored:
    """Decide how a picture is stored, and do it.

    Args:
        shorter_side: a picture whose shorter side is longer than this is made smaller, its shape kept.
        store: "auto" keeps fitting JPEGs, and stores the rest raw when small, else as JPEG; "jpeg": the rest
            is always JPEG; "raw": pixels, of JPEGs too (several times the bytes, faster to read). Bands that are
            channels of their own are always raw.
        quality: of JPEGs encoded here, 1 to 100.
        conversion: of what does not fit 8 bits; see `pixels.decode_picture`.

    Raises:
        Unreadable: damaged, of an unknown kind, or larger than the format holds; said before pixels are decoded.
    """
    conversion = conversion or Conversion()
    if isinstance(picture.data, np.ndarray):
        pixels, grey, notes, bands = convert_values(picture.data, conversion)
        changed, damaged = ", ".join(["pixels", *notes]), False
    else:
        fitting, changed, damaged = _fitting_jpeg(picture.data)
        small = fitting is None or shorter_side is None or min(fitting.width, fitting.height) <= shorter_side
        if fitting is not None and store != "raw" and small and not conversion.choices.channels:
            return fitting
        pixels, grey, notes, bands = decode_picture(picture.data, conversion)
        changed = changed or ("JPEG, decoded" if small else "JPEG")
        if changed == NOT_JPEG and notes:
            changed = f"{NOT_JPEG}: {', '.join(notes)}"
        damaged = damaged or DAMAGED in notes
    looks = look(pixels)
    if shorter_side is not None and min(pixels.shape[:2]) > shorter_side:
        pixels = _make_smaller(pixels, shorter_side)
        changed = f"{changed}, {RESIZED}"
    height, width = pixels.shape[:2]
    check_size(width, height)
    if store == "raw" or (store == "auto" and width * height <= RAW_PIXELS) or conversion.choices.channels:
        values = np.repeat(pixels[:, :, None], 3, axis=2) if pixels.ndim == 2 else pixels
        return Stored(np.ascontiguousarray(values), RAW, width, height, grey, changed, damaged, looks, bands)
    return Stored(_encode_jpeg(pixels, quality), JPEG, width, height, grey, changed, damaged, looks, bands)


def checked_with() -> str:
    """Which decoder vouches for JPEGs passed through, for the file's information block."""
    decoder = decoders.chosen()
    return "Pillow" if decoder is None else decoder.package


# ---- JPEG as it is ---------------------------------------------------------------------------------------


def _fitting_jpeg(data: bytes) -> tuple[Stored | None, str, bool]:
    """(what to store, "", False), or (None, why its bytes do not fit, whether it is damaged).

    Raises:
        Unreadable: a JPEG that does not decode.
    """
    frame = jpeg.frame(data)
    if frame is None:
        return None, NOT_JPEG, False
    marker, precision, height, width, components = frame
    jpeg.check(data, marker, height, width)
    pixels = None
    standard = marker in jpeg.HUFFMAN_FRAMES and precision == 8 and components in (1, 3)
    whys = []
    if standard and (pixels := _read_cleanly(data, height, width)) is None:
        whys.append(_DAMAGED_JPEG)
    if marker not in jpeg.HUFFMAN_FRAMES or precision != 8:
        whys.append("JPEG of a rare kind")
    elif components not in (1, 3):
        whys.append("CMYK JPEG")
    if jpeg.orientation(data) != 1:
        whys.append("EXIF rotation")
    if whys:
        return None, ", ".join(whys), _DAMAGED_JPEG in whys
    assert pixels is not None
    return Stored(data, JPEG, width, height, components == 1, looks=look(pixels)), "", False


def _read_cleanly(data: bytes, height: int, width: int) -> np.ndarray | None:
    """The pixels where the decoder that the loader will use reads every one without complaint; else None."""
    if jpeg.has_zero_step(data):
        return None
    decoder = decoders.chosen()
    if decoder is None:
        pixels = decode_picture(data).pixels  # upright
        upright = (width, height) if jpeg.orientation(data) > 4 else (height, width)
        return pixels if pixels.shape[:2] == upright else None
    target = np.empty(height * width * 3, dtype=np.uint8)
    source = np.frombuffer(data, dtype=np.uint8)
    done = decoder.read(source, 0, len(source), height, width, target)
    return target.reshape(height, width, 3) if done == decode.OK else None


def _make_smaller(pixels: np.ndarray, shorter_side: int) -> np.ndarray:
    """The shorter side to `shorter_side`, the longer in proportion; Lanczos, antialiased."""
    from PIL import Image

    height, width = pixels.shape[:2]
    scale = shorter_side / min(height, width)
    size = max(shorter_side, round(width * scale)), max(shorter_side, round(height * scale))

    def resized(values: np.ndarray) -> np.ndarray:
        return np.asarray(Image.fromarray(values).resize(size, Image.Resampling.LANCZOS))

    if pixels.ndim == 3 and are_bands(pixels.shape[2]):
        return np.stack([resized(np.ascontiguousarray(band)) for band in np.moveaxis(pixels, 2, 0)], axis=2)
    return resized(pixels)


def _encode_jpeg(pixels: np.ndarray, quality: int) -> bytes:
    """Baseline JPEG, colour not subsampled (the source may be lossless); grey as one component."""
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=quality, subsampling=0)
    return stream.getvalue()
