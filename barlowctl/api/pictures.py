"""Images as Python has them: files, Pillow's images, arrays, tensors of pixels."""

from __future__ import annotations

import hashlib
import io
import os
import zlib
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps

from barlowctl.assemble.data import ImageSet, open_images, pictures_of
from barlowctl.channels import MOST_CHANNELS, are_bands
from barlowctl.data import home
from barlowctl.data.images.conversion import Choices
from barlowctl.data.sources.picture import Picture, Source
from barlowctl.data.tree.regular import read_regular
from barlowctl.errors import UserError, kind_of
from barlowctl.files import atomic_write

ALLOWED = (
    "a folder, a packed file or data set by name; image files; Pillow's images; arrays (H, W), (H, W, C) or "
    "(N, H, W, C) of pixels; tensors (N, C, H, W), uint8 of pixels or floating point of a network's input"
)
TRAINED_ON = "a folder, a packed file or data set by name; a list of paths of image files"
_IN_PNG = ("1", "L", "LA", "P", "RGB", "RGBA", "I;16", "I")
"""Modes of Pillow that a PNG holds as they are."""


class InMemory(Source):
    """Pictures that somebody has in memory or as files anywhere, in their order; they have no labels."""

    def __init__(self, images: Sequence[Any]) -> None:
        self.kind, self.path, self.split, self.class_names = "images", Path("images"), "images", []
        self._images = images

    def __len__(self) -> int:
        return len(self._images)

    def describe(self, index: int) -> tuple[str, int]:
        image = self._images[index]
        return (str(image) if isinstance(image, str | os.PathLike) else f"images[{index}]"), -1

    def __getitem__(self, index: int) -> Picture:
        name, label = self.describe(index)
        return Picture(name, label, _stored(self._images[index]))

    def file(self, index: int) -> Path | None:
        image = self._images[index]
        return Path(image) if isinstance(image, str | os.PathLike) else None

    def extent(self, index: int) -> tuple[int, int]:
        stored = self[index].data
        content = stored if isinstance(stored, bytes) else stored.tobytes()
        return len(content), zlib.crc32(content)


def open_pictures(images: Any, split: str, choices: Choices) -> ImageSet:
    """Images to be measured.

    Args:
        images: see `ALLOWED`; a single image is taken as one of one.
        split: of a data set. choices: how files become 8-bit pixels.

    Raises:
        UserError: nothing of that kind, or no images.
    """
    if isinstance(images, str | os.PathLike):
        path = Path(images).expanduser()
        if not path.is_file() or path.suffix == ".beton":
            return open_images(os.fspath(images), split, choices)
    listed = _listed(images)
    return pictures_of(_of_bands(listed, choices), InMemory(listed))


def _of_bands(images: Sequence[Any], choices: Choices) -> Choices:
    """The choices, with all bands of arrays that have others than grey and colours where none are chosen."""
    counts = {image.shape[2] if isinstance(image, np.ndarray) and image.ndim == 3 else 3 for image in images}
    if choices.channels or len(counts) > 1 or not are_bands(count := counts.pop()) or count > MOST_CHANNELS:
        return choices
    return replace(choices, bands=tuple(range(1, count + 1)))


def _listed(images: Any) -> Sequence[Any]:
    """A list of images, each of which `_stored` takes."""
    if isinstance(images, torch.Tensor):
        if images.dtype != torch.uint8 or images.ndim != 4 or not 1 <= images.shape[1] <= MOST_CHANNELS:
            raise UserError(f"a tensor of {images.dtype} and shape {tuple(images.shape)} is no images", allowed=ALLOWED)
        images = images.permute(0, 2, 3, 1).cpu().numpy()
    if isinstance(images, str | os.PathLike | Image.Image) or (isinstance(images, np.ndarray) and images.ndim < 4):
        images = [images]
    if not isinstance(images, Iterable):
        raise UserError(f"images are {kind_of(images)}", allowed=ALLOWED)
    if not isinstance(images, Sequence | np.ndarray):
        images = list(images)
    if not len(images):
        raise UserError("there are no images", allowed=ALLOWED)
    for image in images:
        if not isinstance(image, str | os.PathLike | Image.Image | np.ndarray):
            raise UserError(f"an image is {kind_of(image)}", allowed=ALLOWED)
    return images


def _stored(image: Any) -> bytes | np.ndarray:
    """An image as a source gives it: the bytes of a file, or pixels."""
    if isinstance(image, str | os.PathLike):
        return read_regular(Path(image).expanduser())
    if isinstance(image, np.ndarray):
        return _pixels(image)
    upright = ImageOps.exif_transpose(image)
    if upright.mode == "F":
        return np.asarray(upright)
    stream = io.BytesIO()
    (upright if upright.mode in _IN_PNG else upright.convert("RGB")).save(stream, "PNG", compress_level=1)
    return stream.getvalue()


def _pixels(image: np.ndarray) -> np.ndarray:
    """(H, W) or (H, W, C) of numbers, as they are; a channel alone is grey.

    Raises:
        UserError: another shape.
    """
    if image.ndim == 3 and image.shape[2] == 1:
        image = image[..., 0]
    of_channels = image.ndim == 2 or (image.ndim == 3 and 1 < image.shape[2] <= MOST_CHANNELS)
    if not of_channels or image.dtype.kind not in "uif":
        raise UserError(f"an array of {image.dtype} and shape {image.shape} is no image", allowed=ALLOWED)
    return np.ascontiguousarray(image)


def folder_of(paths: Iterable[str | os.PathLike[str]]) -> str:
    """A folder of links to image files, to be trained on and found again: in the data home, named after the list.

    Raises:
        UserError: no files, or one that is not there.
    """
    listed = list(paths) if isinstance(paths, Iterable) else [paths]
    for path in listed:
        if not isinstance(path, str | os.PathLike):
            raise UserError(f"data has {kind_of(path)}", allowed=TRAINED_ON)
    files = [Path(path).expanduser().absolute() for path in listed]
    if not files:
        raise UserError("the list of images is empty", allowed="paths of image files")
    for file in files:
        if not file.is_file():
            raise UserError(f"'{file}' is not there", allowed="paths of image files")
    digest = hashlib.sha256("\0".join(map(str, files)).encode(errors="surrogateescape")).hexdigest()[:16]
    folder = home.data_home() / "lists" / digest
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        width = len(str(len(files) - 1))
        with suppress(FileExistsError), atomic_write(folder, new=True, durable=False) as temporary:  # another rank's
            temporary.mkdir()
            for number, file in enumerate(files):
                (temporary / f"{number:0{width}}-{file.name}").symlink_to(file)
    return str(folder)
