"""Data sets in NumPy's arrays: MedMNIST's and Keras's `.npz`, a folder of `train_images.npy` and the like."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from barlowctl.data.sources.array_images import ArrayImages
from barlowctl.data.sources.array_names import by_split, may_be_an_image, may_be_images, no_images_in, part_of
from barlowctl.data.sources.numpy_files import in_archive, in_file
from barlowctl.data.sources.read_options import NO_OPTIONS, ReadOptions
from barlowctl.data.sources.stored_array import StoredArray
from barlowctl.data.tree.scan import system_or_hidden
from barlowctl.data.tree.scan_report import ScanReport

_KIND = "images in NumPy arrays"


def open_archive(path: Path, split: str, options: ReadOptions) -> ArrayImages | None:
    """An `.npz`; None where its arrays are images themselves, as those of a folder are.

    Raises:
        UserError: neither, such as features and names.
    """
    arrays = in_archive(path)
    opened = _open(path, split, arrays, options)
    if opened is None and not (len(arrays) > 1 and all(may_be_an_image(array) for array in arrays)):
        raise no_images_in(path, arrays)
    return opened


def open_array(path: Path, split: str) -> ArrayImages | None:
    """A `.npy` file of many images; None where it holds one: of two axes, or three with colours as the last."""
    array = in_file(path)
    return _open(path, split, [array.renamed("images")], NO_OPTIONS) if may_be_images(array) else None


def open_arrays(folder: Path, split: str) -> ArrayImages | None:
    """A folder of `.npy` files that are called as the arrays of an archive are; None where none is of images."""
    files = [file for file in sorted(folder.glob("*.npy")) if part_of(file.stem) and file.is_file()]
    arrays = [in_file(file) for file in files if not system_or_hidden(file.name, folder=False)]
    return _open(folder, split, arrays, NO_OPTIONS)


def _open(path: Path, split: str, arrays: Sequence[StoredArray], options: ReadOptions) -> ArrayImages | None:
    report = ScanReport()
    of = by_split(path, arrays, report, options.image_column, options.label_column)
    return ArrayImages(path, split, {name: [own] for name, own in of.items()}, report, _KIND) if of else None
