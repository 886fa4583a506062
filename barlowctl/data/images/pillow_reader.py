"""Reading through Pillow: images of 8 bits, and the 16 bits of PNG and TIFF that it does not give away."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import io
import logging
import re
import warnings
from typing import Any

import numpy as np

from barlowctl.data.images import formats, jpeg, png, readers, tiff
from barlowctl.data.images.deep import Deep
from barlowctl.data.images.limits import check_size
from barlowctl.data.images.parts import DAMAGED, Parts, turned
from barlowctl.data.images.unreadable import Unreadable


@functools.cache
def pillow() -> Any:
    """Pillow's module Image, told to leave limits and complaints to us: its own come without the name of a file.

    Its limit of 179 million pixels is replaced by ours (`limits`), its log and libtiff's go nowhere.
    """
    from PIL import Image, _imaging

    Image.MAX_IMAGE_PIXELS = None
    logging.getLogger("PIL").addHandler(logging.NullHandler())
    with contextlib.suppress(OSError, AttributeError):  # built without libtiff
        library = ctypes.CDLL(_imaging.__file__)
        for name in ("TIFFSetErrorHandler", "TIFFSetWarningHandler"):
            getattr(library, name)(None)
    return Image


_SILENT = ("ignore", None, Warning, re.compile(r"PIL\."), 0)


def open_image(data: bytes) -> Any:
    """A Pillow image whose pixels are not decoded yet.

    Raises:
        Unreadable: not an image that can be read; says what it is.
    """
    image = pillow()
    from PIL import UnidentifiedImageError

    if _SILENT not in warnings.filters:
        warnings.filterwarnings("ignore", category=Warning, module=r"PIL\.")
    if formats.by_content(data[: formats.HEAD]) is formats.DRAWING:  # Pillow would start Ghostscript for EPS
        raise Unreadable(formats.why_unreadable(data))
    if formats.by_content(data[: formats.HEAD]) is formats.HEIC:
        readers.register_heif()
    try:
        return image.open(io.BytesIO(data))
    except UnidentifiedImageError as error:
        raise Unreadable(formats.why_unreadable(data)) from error
    except Exception as error:
        raise Unreadable(str(error) or type(error).__name__) from error


def read(data: bytes) -> Parts:
    from PIL import ImageOps

    with open_image(data) as opened:
        check_size(*opened.size)
        layout = _layout(opened)
        turned = opened.format == "TIFF" and _orientation_of(opened) != 1  # it turns itself when loaded
        opened.load()  # before others are asked for EXIF data: a PNG's would load it, and hide that it is damaged
        orientation = _orientation_of(opened)
        notes = [DAMAGED] if png.is_damaged(data) else []
        if turned or orientation != 1:
            notes.append("EXIF rotation")
        if getattr(opened, "n_frames", 1) > 1:
            notes.append("first of several pictures")
        if png.depth(data)[0] == 16:
            return _deep_png(data, opened, orientation, notes)
        if opened.format == "TIFF" and ";16" in layout and opened.mode in ("RGB", "RGBA"):
            values = _sixteen_bits(data, opened.mode, layout)
            alpha = values[..., 3] if opened.mode == "RGBA" else None
            nodata = tiff.nodata(opened.tag_v2.get(tiff.NODATA), values.dtype)
            return Parts(Deep(values[..., :3], "uint16", nodata=nodata), alpha, notes=notes)
        image = ImageOps.exif_transpose(opened) if orientation != 1 else opened
        if image.mode.startswith("I") or image.mode == "F":
            values = np.array(image)
            tags = opened.tag_v2 if opened.format == "TIFF" else {}
            nodata = tiff.nodata(tags.get(tiff.NODATA), values.dtype)
            inverted = tags.get(tiff.PHOTOMETRIC) == tiff.WHITE_IS_ZERO  # Pillow turns those of 8 bits alone
            return Parts(Deep(values, values.dtype.name, nodata=nodata), inverted=inverted, notes=notes)
        if ";16" in layout:
            notes.append("16 bits to 8")
        return _parts_of(image, notes)


def _parts_of(image: Any, notes: list[str]) -> Parts:
    """Pixels and alpha of an image of 8 bits a channel."""
    mode = image.mode
    if mode in ("P", "PA"):
        notes = [*notes, "palette"]
    if mode in ("P", "PA", "RGBa") or (mode == "RGB" and "transparency" in image.info):
        image = image.convert("RGBA")
    elif mode == "La" or (mode in ("1", "L") and "transparency" in image.info):
        image = image.convert("LA")
    elif mode == "1":
        image = image.convert("L")
    elif mode not in ("L", "LA", "RGB", "RGBA"):
        notes = notes if mode == "RGBX" else [*notes, f"{mode} to RGB"]
        image = image.convert("RGB")
    pixels = np.array(image)
    if image.mode == "LA":
        return Parts(np.ascontiguousarray(pixels[..., 0]), pixels[..., 1], notes=notes)
    if image.mode == "RGBA":
        return Parts(np.ascontiguousarray(pixels[..., :3]), pixels[..., 3], notes=notes)
    return Parts(pixels, notes=notes)


def _deep_png(data: bytes, opened: Any, orientation: int, notes: list[str]) -> Parts:
    """A PNG of 16 bits a channel, of which Pillow keeps 8 where it has colour or alpha."""
    kind = png.depth(data)[1]
    alpha: np.ndarray | None = None
    values: np.ndarray
    if kind == png.GREY:
        values = np.array(opened).astype(np.uint16)
    elif kind == png.GREY_ALPHA:  # a pixel is as long as one of RGBA in 8 bits
        bytes_of = _with_raw_mode(data, "RGBA")
        pairs = bytes_of.reshape(*bytes_of.shape[:2], 2, 2).astype(np.uint16)
        values, alpha = ((pairs[:, :, at, 0] << 8) + pairs[:, :, at, 1] for at in range(2))
    else:
        values = _sixteen_bits(data, "RGB" if kind == png.RGB else "RGBA", ";16B")
        if kind == png.RGBA:
            values, alpha = values[..., :3], values[..., 3]
    if (hidden := png.transparent_value(data)) is not None and alpha is None:
        key = np.array(hidden[0] if values.ndim == 2 else hidden[:3])
        same = values == key
        alpha = np.where(same if values.ndim == 2 else same.all(axis=2), 0, 65535).astype(np.uint16)
    deep = Deep(turned(values, orientation), "uint16", significant=png.significant_bits(data) % 16)
    return Parts(deep, None if alpha is None else turned(alpha, orientation), notes=notes)


def _sixteen_bits(data: bytes, mode: str, layout: str) -> np.ndarray:
    """uint16 (H, W, C) of what Pillow reads as 8 bits: once by the first byte of each value, once by the second.

    layout: how values lie in the file, in Pillow's words; of libtiff's they are in the machine's order, little-endian.
    """
    first, second = (_with_raw_mode(data, f"{mode};16{order}").astype(np.uint16) for order in "BL")
    return (first << 8) + second if ";16B" in layout else (second << 8) + first


def _with_raw_mode(data: bytes, raw_mode: str) -> np.ndarray:
    """Pixels with the decoded bytes taken for another layout."""
    with open_image(data) as opened:
        tiles = []
        for codec, extents, offset, arguments in opened.tile:
            changed = (raw_mode, *arguments[1:]) if isinstance(arguments, tuple) else raw_mode
            tile = (codec, extents, offset, changed)
            kind = type(opened.tile[0])
            tiles.append(tile if kind is tuple else kind(*tile))
        opened.tile = tiles
        return np.array(opened)


def _layout(opened: Any) -> str:
    """How pixels lie in the file, in Pillow's words ("RGB;16B": big-endian 16 bits); before it is loaded."""
    for _, _, _, details in getattr(opened, "tile", ()):
        parts = details if isinstance(details, tuple) else (details,)
        if opened.format == "PPM" and len(parts) > 1 and parts[1] > 255:  # its largest value
            return f"{parts[0]};16"
        return str(parts[0]) if parts else ""
    return ""


def _orientation_of(image: Any) -> int:
    try:
        value = int(image.getexif().get(jpeg.ORIENTATION, 1))
    except Exception:  # damaged EXIF data says nothing
        return 1
    return value if 1 <= value <= 8 else 1
