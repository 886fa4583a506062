"""One picture as it will be stored: JPEG bytes untouched where they fit, else decoded and stored anew.

A JPEG is passed through when libjpeg-turbo, as FFCV uses it, reads it without complaint into upright RGB:
8 bits, Huffman coded, grey or three components, no EXIF rotation. Everything is decoded once in full, so
that what is packed is known to be readable.
"""

from __future__ import annotations

import functools
import io
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from barlowctl.data import decode, formats
from barlowctl.data.beton_format import JPEG, MAX_PIXELS, MAX_SIDE, RAW
from barlowctl.data.picture import Picture

STORES = ("auto", "jpeg", "raw")
RAW_PIXELS = 128 * 128
"""`auto` stores a decoded image of at most so many pixels raw: 48 KiB, and no loss."""

NOT_JPEG, RESIZED = "not JPEG", "made smaller"  # why bytes are not the source's
_DAMAGED_JPEG, _DAMAGED, _DEEP = "damaged JPEG", "damaged", "16 bits to 8"

_ORIENTATION = 0x0112
_HUFFMAN_FRAMES = (0xC0, 0xC1, 0xC2)  # baseline, extended, progressive
_PIXELS_PER_BYTE = 2048
"""No Huffman-coded JPEG holds more: a block of 64 pixels takes a bit, and the largest component may have a quarter of
the width or height."""


class Unreadable(Exception):
    """An image that cannot be packed; the text says why."""


@dataclass(frozen=True)
class Stored:
    """What goes into the file for one picture.

    payload: a JPEG's bytes, or pixels (H, W, 3) uint8.    mode: `JPEG` or `RAW`.
    grey: it had no colour.    changed: why its bytes are not the source's ("" where they are).
    damaged: the decoder complained, or a checksum is wrong, although pixels came out.
    """

    payload: bytes | np.ndarray
    mode: int
    width: int
    height: int
    grey: bool
    changed: str = ""
    damaged: bool = False


def encode(picture: Picture, *, store: str = "auto", quality: int = 95, shorter_side: int | None = None) -> Stored:
    """Decide how a picture is stored, and do it.

    Args:
        shorter_side: a picture whose shorter side is longer than this is made smaller, its shape kept.
        store: "auto" keeps fitting JPEGs, and stores the rest raw when small, else as JPEG; "jpeg": the rest
            is always JPEG; "raw": pixels, of JPEGs too (several times the bytes, faster to read).
        quality: of JPEGs encoded here, 1 to 100.

    Raises:
        Unreadable: damaged, of an unknown kind, or larger than the format holds; said before pixels are decoded.
    """
    if isinstance(picture.data, np.ndarray):
        pixels, grey, changed, damaged = picture.data, picture.data.ndim == 2, "pixels", False
    else:
        fitting, changed, damaged = _fitting_jpeg(picture.data)
        small = fitting is None or shorter_side is None or min(fitting.width, fitting.height) <= shorter_side
        if fitting is not None and store != "raw" and small:
            return fitting
        pixels, grey, notes = decode_picture(picture.data)
        changed = changed or ("JPEG, decoded" if small else "JPEG")
        if changed == NOT_JPEG and notes:
            changed = f"{NOT_JPEG}: {', '.join(notes)}"
        damaged = damaged or _DAMAGED in notes
    if shorter_side is not None and min(pixels.shape[:2]) > shorter_side:
        pixels = _make_smaller(pixels, shorter_side)
        changed = f"{changed}, {RESIZED}"
    height, width = pixels.shape[:2]
    _check_size(width, height)
    if store == "raw" or (store == "auto" and width * height <= RAW_PIXELS):
        rgb = np.repeat(pixels[:, :, None], 3, axis=2) if pixels.ndim == 2 else pixels
        return Stored(np.ascontiguousarray(rgb), RAW, width, height, grey, changed, damaged)
    return Stored(_encode_jpeg(pixels, quality), JPEG, width, height, grey, changed, damaged)


def checked_with() -> str:
    """Which decoder vouches for JPEGs passed through, for the file's information block."""
    return "ffcv" if decode.available()[0] else "Pillow"


# ---- JPEG as it is ---------------------------------------------------------------------------------------


def _fitting_jpeg(data: bytes) -> tuple[Stored | None, str, bool]:
    """(what to store, "", False), or (None, why its bytes do not fit, whether it is damaged).

    Raises:
        Unreadable: a JPEG that does not decode.
    """
    frame = _jpeg_frame(data)
    if frame is None:
        return None, NOT_JPEG, False
    marker, precision, height, width, components = frame
    _check_jpeg_size(data, marker, height, width)
    known = marker in _HUFFMAN_FRAMES and precision == 8 and components in (1, 3)
    whys = []
    if known and not _reads_cleanly(data, height, width):
        whys.append(_DAMAGED_JPEG)
    if marker not in _HUFFMAN_FRAMES or precision != 8:
        whys.append("JPEG of a rare kind")
    elif components not in (1, 3):
        whys.append("CMYK JPEG")
    if _orientation(data) != 1:
        whys.append("EXIF rotation")
    if whys:
        return None, ", ".join(whys), _DAMAGED_JPEG in whys
    return Stored(data, JPEG, width, height, components == 1), "", False


def _segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(marker, contents) of a JPEG's segments up to its first scan (ITU T.81, B.1.1.4)."""
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] not in (0xD9, 0xDA):
        marker = data[at + 1]
        if marker == 0xFF:  # fill byte
            at += 1
        elif marker == 0x01 or 0xD0 <= marker <= 0xD7:  # stands alone
            at += 2
        else:
            length = int.from_bytes(data[at + 2 : at + 4])
            yield marker, data[at + 4 : at + 2 + length]
            at += 2 + length


def _jpeg_frame(data: bytes) -> tuple[int, int, int, int, int] | None:
    """(frame marker, bits, height, width, components) of a JPEG (ITU T.81, B.2.2); None: not a JPEG."""
    if data[:2] != b"\xff\xd8":
        return None
    for marker, segment in _segments(data):
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC) and len(segment) >= 6:
            return marker, segment[0], int.from_bytes(segment[1:3]), int.from_bytes(segment[3:5]), segment[5]
    raise Unreadable("a JPEG without a frame header (cut short or damaged)")


def _check_jpeg_size(data: bytes, marker: int, height: int, width: int) -> None:
    """Refuse a size that is too large, or that so few bytes cannot hold: decoders would fill all of it with grey."""
    _check_size(width, height)
    if marker in _HUFFMAN_FRAMES and width * height > _PIXELS_PER_BYTE * len(data):
        raise Unreadable(f"it says {width}x{height} pixels, which {len(data)} bytes cannot hold (cut short or damaged)")


def _orientation(data: bytes) -> int:
    """EXIF orientation of a JPEG, 1 (upright) where there is none or it cannot be read (TIFF 6.0, section 2)."""
    for marker, segment in _segments(data):
        if marker != 0xE1 or segment[:6] != b"Exif\0\0":
            continue
        tiff = segment[6:]
        order: Literal["little", "big"] = "little" if tiff[:2] == b"II" else "big"
        start = int.from_bytes(tiff[4:8], order)
        for i in range(int.from_bytes(tiff[start : start + 2], order)):
            entry = tiff[start + 2 + 12 * i : start + 14 + 12 * i]
            if len(entry) < 12:
                return 1
            if int.from_bytes(entry[:2], order) == _ORIENTATION:
                value = int.from_bytes(entry[8:10], order)
                return value if 1 <= value <= 8 else 1
        return 1
    return 1


def _has_zero_step(data: bytes) -> bool:
    """Whether a quantization table holds a zero (T.81, B.2.4.1 forbids it), which takes colours or detail away.

    The loader's decoder does not complain; newer ones refuse the image.
    """
    for marker, tables in _segments(data):
        while marker == 0xDB and tables:
            width = 2 if tables[0] >> 4 else 1
            steps, tables = tables[1 : 1 + 64 * width], tables[1 + 64 * width :]
            if any(int.from_bytes(steps[i : i + width]) == 0 for i in range(0, len(steps), width)):
                return True
    return False


def _reads_cleanly(data: bytes, height: int, width: int) -> bool:
    """Whether the decoder that the loader will use reads every pixel without complaint."""
    if _has_zero_step(data):
        return False
    address = decode.decoder_address()
    if not address:
        shape = decode_picture(data)[0].shape[:2]  # upright
        return shape == ((width, height) if _orientation(data) > 4 else (height, width))
    target = np.empty(height * width * 3, dtype=np.uint8)
    source = np.frombuffer(data, dtype=np.uint8)
    handle = decode.thread_handle()
    return decode.decode_jpeg(address, handle, source, 0, len(source), height, width, target) == decode.OK


# ---- everything else through Pillow ----------------------------------------------------------------------


def _open(data: bytes) -> Any:
    from PIL import Image, UnidentifiedImageError

    if formats.by_content(data[: formats.HEAD]) is formats.DRAWING:  # Pillow would start Ghostscript for EPS
        raise Unreadable(formats.why_unreadable(data))
    try:
        try:
            return Image.open(io.BytesIO(data))
        except UnidentifiedImageError as error:
            if formats.by_content(data[: formats.HEAD]) is not formats.HEIC or not formats.register_heif():
                raise Unreadable(formats.why_unreadable(data)) from error
            return Image.open(io.BytesIO(data))
    except Unreadable:
        raise
    except Exception as error:
        raise Unreadable(_reason(error)) from error


def decode_picture(data: bytes) -> tuple[np.ndarray, bool, list[str]]:
    """Upright pixels, uint8 (H, W) or (H, W, 3); whether the image is grey; what was done to it beside decoding.

    Rotation in EXIF data is applied; 16 bits become 8; palettes and CMYK become RGB; of an animation the
    first picture is taken; transparency is dropped.

    Raises:
        Unreadable: damaged, of an unknown kind, or of too many pixels (said before they are decoded).
    """
    from PIL import ImageOps

    if frame := _jpeg_frame(data):
        _check_jpeg_size(data, frame[0], frame[2], frame[3])
    with _open(data) as opened:
        _check_pixels(*opened.size)
        try:
            layout = _layout(opened)
            turned = opened.format == "TIFF" and _orientation_of(opened) != 1  # it turns itself when loaded
            opened.load()  # before others are asked for EXIF data: a PNG's would load it, and hide that it is damaged
            turned = turned or _orientation_of(opened) != 1
            image, notes = opened, [_DAMAGED] if _png_is_damaged(data) else []
            if turned:
                image = ImageOps.exif_transpose(opened)
                notes.append("EXIF rotation")
            if getattr(opened, "n_frames", 1) > 1:
                notes.append("first of several pictures")
            if image.mode.endswith(("A", "a")) or "transparency" in image.info:
                notes.append("transparency dropped")
            if image.mode.startswith("I") or image.mode == "F":
                return _to_8_bits(np.array(image)), True, [*notes, _DEEP]
            if ";16" in layout:
                notes.append(_DEEP)
            if layout.startswith("LA"):  # of 16 bits: Pillow makes it RGBA
                image = image.convert("LA")
            if image.mode in ("1", "L", "LA", "La"):
                return np.array(image.convert("L")), True, notes
            if image.mode in ("P", "PA"):
                notes.append("palette")
                image = image.convert("RGBA")  # by way of RGBA: Pillow warns of transparency otherwise
            elif image.mode not in ("RGB", "RGBA", "RGBa", "RGBX"):
                notes.append(f"{image.mode} to RGB")
            return np.array(image.convert("RGB")), False, notes
        except Unreadable:
            raise
        except Exception as error:  # decoders raise all kinds of errors for damaged files
            raise Unreadable(_reason(error)) from error


def _layout(opened: Any) -> str:
    """How pixels lie in the file, in Pillow's words ("RGB;16B": big-endian 16 bits); before it is loaded."""
    for _, _, _, details in getattr(opened, "tile", ()):
        parts = details if isinstance(details, tuple) else (details,)
        if opened.format == "PPM" and len(parts) > 1 and parts[1] > 255:  # its largest value
            return f"{parts[0]};16"
        return str(parts[0]) if parts else ""
    return ""


def _png_is_damaged(data: bytes) -> bool:
    """Whether a checksum of what pixels depend on is wrong, or the end is missing (PNG, 5.3): Pillow looks in part."""
    if data[:8] != b"\x89PNG\r\n\x1a\n":
        return False
    at, view = 8, memoryview(data)
    while at + 12 <= len(data):
        kind, end = data[at + 4 : at + 8], at + 8 + int.from_bytes(data[at : at + 4])
        if end + 4 > len(data):
            return True  # cut short
        if kind[:1].isupper() and zlib.crc32(view[at + 4 : end]) != int.from_bytes(data[end : end + 4]):
            return True
        if kind == b"IEND":
            return False
        at = end + 4
    return True


def _make_smaller(pixels: np.ndarray, shorter_side: int) -> np.ndarray:
    """The shorter side to `shorter_side`, the longer in proportion; Lanczos, antialiased."""
    from PIL import Image

    height, width = pixels.shape[:2]
    scale = shorter_side / min(height, width)
    size = max(shorter_side, round(width * scale)), max(shorter_side, round(height * scale))
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS))


def _orientation_of(image: Any) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # damaged EXIF data says nothing
        return 1


def _to_8_bits(pixels: np.ndarray) -> np.ndarray:
    """16-bit grey, [0, 65535], to [0, 255]; other ranges are unknown and refused."""
    if pixels.dtype.kind == "f" or pixels.min() < 0 or pixels.max() > 65535:
        raise Unreadable(f"pixels of type {pixels.dtype} in an unknown range; convert it to 8 or 16 bits")
    return ((pixels.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)


def _encode_jpeg(pixels: np.ndarray, quality: int) -> bytes:
    """Baseline JPEG, colour not subsampled (the source may be lossless); grey as one component."""
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=quality, subsampling=0)
    return stream.getvalue()


def _check_size(width: int, height: int) -> None:
    if not (0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE):
        raise Unreadable(f"{width}x{height} pixels: the .beton format holds 1 to {MAX_SIDE} a side")
    _check_pixels(width, height)


def _check_pixels(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise Unreadable(f"{width}x{height} pixels: at most {MAX_PIXELS:,} an image are read")


@functools.cache
def _known_errors() -> tuple[type[Exception], ...]:
    from PIL import Image, UnidentifiedImageError

    return UnidentifiedImageError, Image.DecompressionBombError


def _reason(error: Exception) -> str:
    unidentified, bomb = _known_errors()
    if isinstance(error, unidentified):
        return "not an image of a known kind"
    if isinstance(error, bomb):
        return "too many pixels to be decoded safely"
    return str(error) or type(error).__name__
