"""One item of a data set that a program has in hand: its image, its label and what it is called."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageFile, ImageOps

from barlowctl.channels import MOST_CHANNELS
from barlowctl.data.images.array_axes import bands_last, without_a_single_band
from barlowctl.data.images.unreadable import Unreadable
from barlowctl.data.labels.columns import ends_as_image
from barlowctl.data.labels.numbering import label_name
from barlowctl.data.labels.text_table import FILE_NAMES
from barlowctl.data.sources.tables import records_of
from barlowctl.data.tree.regular import read_regular
from barlowctl.errors import UserError, kind_of

ALLOWED = (
    "Pillow's images, arrays of pixels (H, W) or (H, W, C), tensors (C, H, W), or files; or tuples that begin with "
    "one and its label, or dictionaries with `image` and `label`"
)
AS_THEY_ARE = "images as they are, of 8 bits: the views are made and normalised here, as the recipe says"
WITHOUT_TRANSFORM = "dataset.transform = None; or one that gives the same Pillow image or uint8 tensor each time"
WITHOUT_FORMAT = "dataset.reset_format(); or a transform that gives the same Pillow image or uint8 tensor each time"
"""Of Hugging Face's data sets, whose `set_transform` and `with_transform` are a format; they take no attribute."""
_IMAGES = ("image", "img", "jpg", "jpeg", "png", "webp", "picture", "photo", "rgb", "pixel_values")
"""What a dictionary calls its image, best first, in small letters."""
_IN_PNG = ("1", "LA", "P", "RGBA", "I;16", "I")
"""Modes of Pillow that a PNG holds as they are, beside those that are pixels already."""


class Item(NamedTuple):
    """image: what `stored` takes. label: None where it has none. name: "" where it has none."""

    image: Any
    label: Any = None
    name: str = ""


def parted(item: Any) -> Item:
    """The parts of an item as data sets give it: an image; a tuple of an image and more; a dictionary.

    Raises:
        Unreadable: a dictionary without an image.
    """
    rows = records_of(item)  # as Hugging Face gives an item in the format of pandas
    item = rows[0] if rows is not None and len(rows) == 1 else item
    if isinstance(item, Mapping) and not _is_file(item):
        keys = {str(key).lower(): key for key in reversed(list(item))}
        image = next((keys[name] for name in _IMAGES if name in keys), None) or _image_in(item, keys)
        label = label_name([name for name in keys if keys[name] != image])
        return Item(item[image], None if label is None else _label(item[keys[label]]))
    if isinstance(item, tuple | list) and len(item):
        name = item[2] if len(item) == 3 and isinstance(item[2], str) else ""
        return Item(item[0], _label(item[1]) if len(item) > 1 else None, name)
    return Item(item)


def _image_in(item: Mapping[Any, Any], keys: Mapping[str, Any]) -> Any:
    """The key of the image where none is called so: that of a path, or the only one with an image.

    Raises:
        Unreadable: no image, or several.
    """
    paths = [keys[name] for name in FILE_NAMES if name in keys and _is_path(item[keys[name]])]
    images = [key for key, value in item.items() if _is_image(value)]
    if paths or len(images) == 1:
        return (paths or images)[0]
    several = ": several images" if images else ""
    raise Unreadable(
        f"its keys are {', '.join(map(str, item))}, and none is called image{several}; "
        "give the images by themselves, or rename the key (dataset.rename_column('NAME', 'image'))"
    )


def _is_path(value: Any) -> bool:
    return isinstance(value, os.PathLike) or (isinstance(value, str) and ends_as_image(value))


def _is_image(value: Any) -> bool:
    """Whether a value is an image, whatever it is called; a file by its name alone may be anything."""
    if isinstance(value, Mapping):
        return _is_file(value)
    return isinstance(value, Image.Image) or len(getattr(value, "shape", ())) >= 2


def file_of(image: Any) -> Path | None:
    """The file that an image is; None: it is none."""
    if isinstance(image, Mapping) and image.get("bytes") is None:
        image = image.get("path")
    return Path(image).expanduser() if isinstance(image, str | os.PathLike) else None


def stored(image: Any, name: str) -> bytes | np.ndarray:
    """An image as a source gives it: the bytes of a file, or pixels.

    Args:
        name: what to call it.

    Raises:
        Unreadable: it is none.
        OSError: its file cannot be read.
        UserError: it is several views of one.
    """
    if (file := file_of(image)) is not None:
        return read_regular(file)
    if isinstance(image, Mapping):
        image = image.get("bytes")
    if isinstance(image, bytes | bytearray):
        return bytes(image)
    if isinstance(image, Image.Image):
        return _of_pillow(image)
    if isinstance(image, tuple | list):
        if _is_of_numbers(image):  # as Hugging Face gives an array where no format is set
            return _pixels(np.asarray(image), channels_first=False)
        raise UserError(
            f"{name} is {kind_of(image)} of {len(image)}: views of an image, or no image",
            allowed=AS_THEY_ARE,
            next=WITHOUT_TRANSFORM,
        )
    if is_tensor(image):
        return _pixels(_values(image), channels_first=True)
    if hasattr(image, "__array__"):
        return _pixels(np.asarray(image), channels_first=False)
    raise Unreadable("it is None" if image is None else f"it is {kind_of(image)}, and no image")


def is_to_be_decoded(image: Any) -> bool:
    """Whether Pillow has yet to decode an image, of a file or of bytes: any thread may, without code of somebody's."""
    if not (isinstance(image, ImageFile.ImageFile) and image.tile):
        return False
    stream = image.fp.raw if isinstance(image.fp, io.BufferedReader) else image.fp
    return type(stream) in (io.FileIO, io.BytesIO)


def is_of_numbers(image: Any) -> bool:
    """Whether an image is an array or a tensor, whose memory its owner may write over."""
    return isinstance(image, np.ndarray) or is_tensor(image)


def is_tensor(value: Any) -> bool:
    """Whether a value is one of torch's tensors, without torch."""
    return hasattr(value, "detach") and hasattr(value, "numpy")


def _is_file(item: Mapping[Any, Any]) -> bool:
    """Whether it is an encoded image as Hugging Face has it."""
    return "bytes" in item and set(item) <= {"bytes", "path"}


def _is_of_numbers(rows: Sequence[Any]) -> bool:
    """Whether lists in lists are rows of numbers."""
    first: Any = rows[0] if rows else None
    inner = first[0] if isinstance(first, tuple | list) and first else None
    while isinstance(inner, tuple | list) and inner:
        inner = inner[0]
    return isinstance(inner, int | float)


def _of_pillow(image: Image.Image) -> bytes | np.ndarray:
    upright = ImageOps.exif_transpose(image)
    if upright.mode in ("L", "RGB", "F"):
        return np.array(upright)  # of its own: what torch makes of Pillow's it could write into
    stream = io.BytesIO()
    (upright if upright.mode in _IN_PNG else upright.convert("RGB")).save(stream, "PNG", compress_level=1)
    return stream.getvalue()


def _values(tensor: Any) -> np.ndarray:
    """The numbers of a tensor, on the CPU."""
    own = tensor.detach().cpu()
    values: np.ndarray = np.asarray((own.float() if own.is_floating_point() else own).numpy())
    return values


def _pixels(values: np.ndarray, *, channels_first: bool) -> np.ndarray:
    """(H, W) or (H, W, C) of numbers, as they are; a channel alone is grey.

    Args:
        channels_first: of three axes the first is the channels, unless 1 or 3 are at the end alone; False: 1 or 3 at
            the end are, else the shorter of the first and the last, as of arrays in files.

    Raises:
        Unreadable: another shape, or no numbers.
    """
    shape = values.shape
    if values.ndim == 3:
        if channels_first and not (shape[2] in (1, 3) and shape[0] not in (1, 3)):
            values = np.moveaxis(values, 0, -1)
        elif not channels_first and shape[2] not in (1, 3):
            values = bands_last(values)
        values = without_a_single_band(values)
    of_channels = values.ndim == 2 or (values.ndim == 3 and 1 < values.shape[2] <= MOST_CHANNELS)
    if not of_channels or values.dtype.kind not in "buif" or 0 in shape:
        raise Unreadable(f"{values.dtype.name} values of shape {tuple(shape)} are no image")
    own = np.ascontiguousarray(values)
    if own.dtype.kind == "b":  # black and white, as of files
        return own.astype(np.uint8) * np.uint8(255)
    return own if own.flags.writeable else own.copy()


def _label(label: Any) -> Any:
    """A label as `number_labels` takes it: tensors as numbers, or lists of them; images as what is no class."""
    values = _values(label) if is_tensor(label) else label
    if isinstance(values, np.ndarray):
        return values.item() if values.size == 1 else tuple(values.ravel()[:2].tolist())
    return ("an", "image") if isinstance(values, Image.Image) else values
