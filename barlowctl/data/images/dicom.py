"""DICOM: the pixels of X-rays, slices of CT and MR, ultrasound, with the values that their scanner means.

Decoding is pydicom's. What its files say beside the pixels is heeded here: the rescaling to the scanner's units
(PS3.3 C.11.1: Hounsfield units of CT), how many bits are stored, whether 0 is white (MONOCHROME1), and which value pads
the picture. The window that a file proposes for display is not: it differs from picture to picture.
"""

from __future__ import annotations

import io
import re
import warnings
from typing import Any

import numpy as np

from barlowctl.data.images import formats, readers
from barlowctl.data.images.deep import Deep
from barlowctl.data.images.limits import check_size
from barlowctl.data.images.parts import Parts
from barlowctl.data.images.unreadable import Unreadable

_INVERTED = "MONOCHROME1"
_SILENT = ("ignore", None, Warning, re.compile(r"pydicom\."), 0)


def read(data: bytes) -> Parts | None:
    """The picture in a DICOM file, the first of several; None: it is no DICOM file.

    Raises:
        Unreadable: pydicom is not installed, the file holds no picture, or one that nothing here decodes.
    """
    if formats.by_content(data[: formats.HEAD]) is not formats.DICOM:
        return None
    if not readers.has_pydicom():
        raise Unreadable(formats.why_unreadable(data))
    from pydicom import dcmread

    if _SILENT not in warnings.filters:
        warnings.filterwarnings("ignore", category=Warning, module=r"pydicom\.")
    file = dcmread(io.BytesIO(data), force=True)  # also without the first 132 bytes, as before 1993
    pixels = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
    if not any(name in file for name in pixels) or "Rows" not in file or "Columns" not in file:
        raise Unreadable(f"a DICOM file without a picture: {_kind(file)}")
    check_size(int(file.Columns), int(file.Rows))
    notes = ["first of several pictures"] if int(getattr(file, "NumberOfFrames", 1) or 1) > 1 else []
    values = _decoded(file)
    if values.ndim == 3:
        return Parts(_colours(values, int(file.BitsStored)), notes=notes)
    if file.PhotometricInterpretation == "PALETTE COLOR":
        from pydicom.pixels.processing import apply_color_lut

        return Parts(_colours(apply_color_lut(values, file)), notes=[*notes, "palette"])
    return Parts(_grey(values, file), inverted=file.PhotometricInterpretation == _INVERTED, notes=notes)


def _kind(file: Any) -> str:
    """What the file says it is: "Comprehensive SR Storage", "Media Storage Directory Storage" (a DICOMDIR)."""
    named = getattr(file, "SOPClassUID", None) or getattr(file.file_meta, "MediaStorageSOPClassUID", None)
    return getattr(named, "name", "") or "an unknown kind"


def _decoded(file: Any) -> np.ndarray:
    """Pixels of the first picture, colours as RGB."""
    from pydicom.pixels.utils import pixel_array

    if "TransferSyntaxUID" not in file.file_meta:
        file.file_meta.TransferSyntaxUID = _uncompressed(*file.original_encoding)
    syntax, stored = file.file_meta.TransferSyntaxUID, int(getattr(file, "BitsStored", 0) or 0)
    if not syntax.is_encapsulated and getattr(file, "HighBit", None) not in (None, stored - 1):
        raise Unreadable(f"a DICOM image of {stored} bits whose highest is bit {file.HighBit}, and not {stored - 1}")
    try:
        return np.asarray(pixel_array(file, index=0))
    except (RuntimeError, NotImplementedError) as error:
        compression = file.file_meta.TransferSyntaxUID.name
        raise Unreadable(f"a DICOM image compressed as {compression}; {why_not_decoded(str(error))}") from error


def _uncompressed(implicit: bool, little_endian: bool) -> str:
    """How a file that does not say it is stored, from how its elements are written (PS3.5, annex A)."""
    if not little_endian:
        return "1.2.840.10008.1.2.2"
    return "1.2.840.10008.1.2" if implicit else "1.2.840.10008.1.2.1"


def why_not_decoded(reason: str) -> str:
    """pydicom's reason, of every decoder that is there, and what brings one that is not."""
    if "missing dependencies" in reason:
        return "a decoder of it comes with: pip install python-gdcm"
    of_each = [line.strip() for line in reason.splitlines() if line.strip()]
    decoders = [line.partition(":")[0] for line in of_each[1:]]
    why = f"which cannot be decoded: {'; '.join(of_each[1:] or of_each)}"
    decoder, packages = ("pylibjpeg", "pylibjpeg pylibjpeg-libjpeg") if "12-bit" in reason else ("gdcm", "python-gdcm")
    if not decoders or decoder in decoders:
        return why
    return f"{why}; another decoder may: pip install {packages}"


def _colours(values: np.ndarray, bits: int = 0) -> np.ndarray:
    """Colours of 8 bits; of more bits the upper 8. bits: how many are stored; 0: all that the type holds."""
    if values.dtype == np.uint8:
        return values
    return (values >> max(0, (bits or 8 * values.dtype.itemsize) - 8)).astype(np.uint8)


def _grey(values: np.ndarray, file: Any) -> np.ndarray | Deep:
    """Values in the scanner's units: unsigned as they are stored, with their bits, else int32; float32 of fractions."""
    padding = getattr(file, "PixelPaddingValue", None)
    nodata = None if padding is None else float(_as_stored(padding, values.dtype))
    if nodata is not None and (limit := getattr(file, "PixelPaddingRangeLimit", None)) is not None:
        low, high = sorted((nodata, float(_as_stored(limit, values.dtype))))
        values = np.where((values >= low) & (values <= high), _as_stored(padding, values.dtype), values)
    if "ModalityLUTSequence" in file:
        from pydicom.pixels.processing import apply_modality_lut

        return Deep(apply_modality_lut(values, file), "uint16")
    slope, intercept = _rescaling(file)
    if values.dtype.kind == "u" and (slope, intercept) == (1, 0):
        if values.dtype == np.uint8:
            if nodata is not None:
                values = np.where(
                    values == nodata, np.uint8(255 * (file.PhotometricInterpretation == _INVERTED)), values
                )
            return values * np.uint8(255) if file.BitsStored == 1 else values
        stored = int(file.BitsStored)
        bits = stored if stored < 8 * values.dtype.itemsize else 0
        return Deep(values, values.dtype.name, bits=bits, nodata=nodata)
    whole = values.dtype.kind != "f" and slope.is_integer() and intercept.is_integer()
    scaled = (values * slope + intercept).astype(np.int32 if whole else np.float32)
    if nodata is not None:
        nodata = float(np.asarray(nodata * slope + intercept).astype(scaled.dtype))  # rounded as the values are
    return Deep(scaled, scaled.dtype.name, nodata=nodata)


def _as_stored(padding: Any, dtype: np.dtype) -> np.ndarray:
    """A padding value in the pixels' type: of pixels with a sign some scanners write -2000 as 63536, its 16 bits."""
    return np.asarray(padding).astype(dtype)


def _rescaling(file: Any) -> tuple[float, float]:
    """Slope and intercept; of files of several pictures that of all, or of the first."""
    for place in (file, *_functional_groups(file)):
        slope, intercept = (getattr(place, f"Rescale{of}", None) for of in ("Slope", "Intercept"))
        if slope is not None or intercept is not None:
            if slope == 0:
                raise Unreadable("a DICOM image whose RescaleSlope is 0: all its values would be the same")
            return float(1 if slope is None else slope), float(intercept or 0)
    return 1.0, 0.0


def _functional_groups(file: Any) -> list[Any]:
    groups = [getattr(file, f"{of}FunctionalGroupsSequence", None) for of in ("Shared", "PerFrame")]
    transformations = [getattr(group[0], "PixelValueTransformationSequence", None) for group in groups if group]
    return [transformation[0] for transformation in transformations if transformation]
