"""Images as Python has them: files, Pillow's images, arrays, tensors of pixels."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from barlowctl.assemble.data import ImageSet, open_images
from barlowctl.data import home
from barlowctl.data.images.conversion import Choices
from barlowctl.data.sources.file_kind import BY_ENDING
from barlowctl.data.sources.file_kind import kind_of as kind_of_file
from barlowctl.data.sources.in_memory import InMemory
from barlowctl.data.sources.tables import plain
from barlowctl.errors import UserError, kind_of
from barlowctl.files import atomic_write

LISTS = (".csv", ".tsv", ".txt", ".lst", ".json", ".jsonl")
"""What lists of paths are called."""
TRAINED_ON = "a folder, a packed file or data set by name; a list of paths of image files"


def open_pictures(images: Any, split: str, choices: Choices) -> ImageSet:
    """Images to be measured.

    Args:
        images: a folder, a packed file or data set by name, an image file, or what `listed.IMAGES` says; a single image
            is taken as one of one.
        split: of a data set, and of a dictionary by split. choices: how files become 8-bit pixels.

    Raises:
        UserError: nothing of that kind, or no images.
    """
    if isinstance(images, str | os.PathLike):
        path = Path(images).expanduser()
        if not path.is_file() or _holds_several(path):
            return open_images(os.fspath(images), split, choices)
        images = [images]
    images = plain(images)
    if isinstance(images, Image.Image) or (isinstance(images, np.ndarray | torch.Tensor) and images.ndim < 4):
        images = [images]
    return open_images(in_memory(images, choices), split if isinstance(images, Mapping) else "train", choices)


@contextmanager
def three_axes_explained(images: Any) -> Iterator[None]:
    """Where one image of three axes is refused, say how several grey ones are given."""
    try:
        yield
    except UserError as error:
        if isinstance(images, np.ndarray | torch.Tensor) and images.ndim == 3:
            error.allowed = f"three axes are one image; of {len(images):,} grey images a list, list(images)" + (
                f"; {error.allowed}" if error.allowed else ""
            )
            error.next = "list(images)"
        raise


def _holds_several(path: Path) -> bool:
    """Whether a file is an archive, a table or a list, which is packed first, and no image."""
    if path.suffix.lower() in (*BY_ENDING, *LISTS):
        return True
    with suppress(OSError):
        return kind_of_file(path) not in ("image", "numpy array", "text", "other")
    return False


def named_or_in_memory(data: Any, choices: Choices) -> str | InMemory | None:
    """Images as they are measured: by name or path, or in memory.

    Raises:
        UserError: neither.
    """
    if data is None or isinstance(data, str | os.PathLike):
        return None if data is None else os.fspath(data)
    return in_memory(data, choices)


def in_memory(images: Any, choices: Choices, *, classes: Sequence[str] = ()) -> InMemory:
    """Images that a program has in hand; see `InMemory`."""
    return InMemory(images, ranged=choices.range != Choices().range, classes=classes)


def folder_of(paths: Iterable[str | os.PathLike[str]], made: list[Path] | None = None) -> str:
    """A folder of links to image files, to be trained on and found again: in the data home, named after the list.

    Args:
        made: the folder is added to it where it was not there before.

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
            if made is not None:
                made.append(folder)
    return str(folder)
