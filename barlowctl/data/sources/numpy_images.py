"""Data sets in NumPy's arrays: MedMNIST's and Keras's `.npz`, a folder of `train_images.npy` and the like."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from barlowctl.data.images.array_axes import stored
from barlowctl.data.labels.numbering import Labels, number_labels
from barlowctl.data.names import written
from barlowctl.data.sources.numpy_files import StoredArray, in_archive, in_file
from barlowctl.data.sources.numpy_names import (
    ALLOWED,
    SplitArrays,
    by_split,
    may_be_an_image,
    may_be_images,
    part_of,
)
from barlowctl.data.sources.picture import Picture, Source
from barlowctl.data.tree.scan import system_or_hidden
from barlowctl.data.tree.scan_report import ScanReport
from barlowctl.data.tree.splits import SAME_SPLIT, choices
from barlowctl.errors import UserError

NAMED = 5
"""So many arrays are named in an error."""


class NumpyImages(Source):
    """The images of a split in one array of any number type; each is read as `numpy_array` reads one.

    Args:
        of: arrays by their split, see `numpy_names.by_split`; at least one.

    Raises:
        UserError: no such split, no images, or labels of another number of images.
    """

    def __init__(self, path: Path, split: str, of: Mapping[str, SplitArrays], report: ScanReport) -> None:
        self.path, self.split, self.kind, self.scan_report = path, split, "images in NumPy arrays", report
        name = next((name for name in (split, SAME_SPLIT.get(split, split), "") if name in of), None)
        if name is None:
            there = ", ".join(written(own.images.name) for own in of.values())
            raise UserError(f"{path} has no {split} split", allowed=f"its arrays: {there}", next=choices(of))
        self.splits = {name for name in of if name}
        own, taken = of[name], [array for own in of.values() for array in (own.images, own.labels) if array]
        self.files = list(dict.fromkeys(array.file for array in taken))
        self._name, self._images = written(own.images.name), own.images.read()
        if not len(self._images):
            raise UserError(f"{path}: '{self._name}' holds no images", next="name another file")
        training = of["train"].labels if "train" in of and name != "train" else None
        labels = _labels(own.labels, training, len(self._images), path)
        self._labels, self.class_names = labels.numbers, labels.class_names
        for note in labels.notes:
            self.scan_report.note(note)

    def __len__(self) -> int:
        return len(self._images)

    def describe(self, index: int) -> tuple[str, int]:
        return f"{self._name}[{index}]", int(self._labels[index])

    def __getitem__(self, index: int) -> Picture:
        return Picture(*self.describe(index), stored(np.asarray(self._images[index])))

    def extent(self, index: int) -> tuple[int, int]:
        values = np.ascontiguousarray(self._images[index])
        return values.nbytes, zlib.crc32(values.data)


def open_archive(path: Path, split: str) -> NumpyImages | None:
    """An `.npz`; None where its arrays are images themselves, as those of a folder are.

    Raises:
        UserError: neither, such as features and names.
    """
    arrays = in_archive(path)
    opened = _open(path, split, arrays)
    if opened is None and not (len(arrays) > 1 and all(may_be_an_image(array) for array in arrays)):
        named = [f"'{written(array.name)}' ({' x '.join(map(str, array.shape))} {array.dtype})" for array in arrays]
        more = ", ..." if len(named) > NAMED else ""
        raise UserError(
            f"{path} has no array that is known for images: {', '.join(named[:NAMED])}{more}",
            allowed=ALLOWED,
            next="name another file",
        )
    return opened


def open_array(path: Path, split: str) -> NumpyImages | None:
    """A `.npy` file of many images; None where it holds one: of two axes, or three with colours as the last."""
    array = in_file(path)
    return _open(path, split, [array.renamed("images")]) if may_be_images(array) else None


def open_arrays(folder: Path, split: str) -> NumpyImages | None:
    """A folder of `.npy` files that are called as the arrays of an archive are; None where none is of images."""
    files = [file for file in sorted(folder.glob("*.npy")) if part_of(file.stem) and file.is_file()]
    arrays = [in_file(file) for file in files if not system_or_hidden(file.name, folder=False)]
    return _open(folder, split, arrays)


def _open(path: Path, split: str, arrays: Sequence[StoredArray]) -> NumpyImages | None:
    report = ScanReport()
    of = by_split(path, arrays, report)
    return NumpyImages(path, split, of, report) if of else None


def _labels(own: StoredArray | None, training: StoredArray | None, images: int, path: Path) -> Labels:
    if own is None:
        return Labels(np.full(images, -1, np.int64), [])
    if own.shape[:1] != (images,):
        raise UserError(
            f"{path}: {own.shape[0]:,} labels in '{written(own.name)}', and {images:,} images",
            next="copy it again",
        )
    known = None if training is None else _numbered(training).class_names or None
    return _numbered(own, known)


def _numbered(array: StoredArray, known: list[str] | None = None) -> Labels:
    """Numbers, words, or a column for each class with a single 1; a column alone is that of the numbers."""
    what = f"the labels in '{written(array.name)}'"
    if array.dtype.hasobject:
        note = f"{what} are Python objects, which are not loaded (they could run code): not used as classes"
        return Labels(np.full(array.shape[0], -1, np.int64), [], (note,))
    values = array.read().reshape(array.shape[0], -1)
    if values.shape[1] == 1:
        values = values[:, 0]
    elif values.dtype.kind in "buif" and bool(((values == 0) | (values == 1)).all() and (values.sum(1) == 1).all()):
        values = values.argmax(1)
    if values.dtype.kind == "S":
        values = np.char.decode(values, "utf-8", "backslashreplace")
    return number_labels(values.tolist(), what, training_classes=known)
