"""Data sets in HDF5 files: images and labels in one file or in two, one file or a folder of them.

PatchCamelyon's two files of each split, Galaxy10's one, a file of tiles for each slide. Which array is which is said by
its name (`array_names`), else by that of its file; a file's name also says the split where a folder is read.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from barlowctl.data.sources.array_images import ArrayImages
from barlowctl.data.sources.array_names import (
    LABEL_WORDS,
    UNKNOWN,
    SplitArrays,
    are_images,
    by_split,
    may_be_images,
    may_be_labels,
    no_images_in,
    part_of,
)
from barlowctl.data.sources.hdf5_files import in_file
from barlowctl.data.sources.hdf5_groups import Hdf5Groups
from barlowctl.data.sources.picture import Source
from barlowctl.data.sources.read_options import ReadOptions
from barlowctl.data.sources.stored_array import StoredArray
from barlowctl.data.tree.scan import system_or_hidden
from barlowctl.data.tree.scan_report import ScanReport
from barlowctl.data.tree.splits import split_in
from barlowctl.errors import UserError

KIND = "images in HDF5 files"
ENDINGS = (".h5", ".hdf5", ".he5")
_LAST_WORD = re.compile(r"(?i)(.*?)([a-z]+)$")


def open_hdf5(path: Path, split: str, options: ReadOptions) -> Source:
    """An HDF5 file with images; labels in it, or in the file beside it (`x.h5` and `y.h5`, `_images` and `_labels`).

    Raises:
        UserError: h5py is not there, a damaged file, no images in it, or as `array_names.by_split` does.
    """
    report, arrays = ScanReport(), _with_roles(in_file(path), path)
    of = by_split(path, arrays, report, options.image_column, options.label_column)
    if not of and are_images(arrays):
        return Hdf5Groups(path, split, options.class_folders)
    if not of:
        raise no_images_in(path, arrays)
    if len(of) == 1 and options.label_column is None:
        of = {name: _with_labels_beside(own) for name, own in of.items()}
    return ArrayImages(path, split, {name: [own] for name, own in of.items()}, report, KIND)


def hdf5_files_in(folder: Path) -> list[Path]:
    """HDF5 files that lie directly in a folder, by their endings, sorted."""
    return [
        file
        for file in sorted(folder.iterdir())
        if file.suffix.lower() in ENDINGS and not system_or_hidden(file.name, folder=False) and file.is_file()
    ]


def open_hdf5_folder(folder: Path, split: str, options: ReadOptions) -> ArrayImages | None:
    """The HDF5 files in a folder as one data set, in the order of their names; None where there are none.

    Raises:
        UserError: none has images, or as `open_hdf5` does.
    """
    report, of = ScanReport(), dict[str, list[SplitArrays]]()
    files = hdf5_files_in(folder)
    without: list[tuple[Path, list[StoredArray]]] = []
    for file in files:
        named = [replace(array, inside=file.name) for array in in_file(file)]
        arrays = _with_roles(named, file, split_in(file.stem) or "")
        if not (own := by_split(folder, arrays, report, options.image_column, options.label_column)):
            without.append((file, arrays))
            continue
        for name, pair in own.items():
            beside = pair if options.label_column is not None or len(own) > 1 else _with_labels_beside(pair)
            of.setdefault(name, []).append(beside)
    if not of:
        if not without:
            return None
        raise no_images_in(folder, [array for _, arrays in without for array in arrays])
    taken = {array.file for parts in of.values() for own in parts for array in (own.images, own.labels) if array}
    for file, arrays in without:
        for array in arrays if file not in taken else ():
            report.skip(UNKNOWN, array.full_name)
    if "" in of and len(of) > 1:
        for pair in of.pop(""):
            report.skip("files of another split or none", pair.images.inside)
    return ArrayImages(folder, split, of, report, KIND)


def _with_roles(arrays: Sequence[StoredArray], file: Path, split: str = "") -> list[StoredArray]:
    """Arrays whose names do not say what they hold take the last word of their file's name, where they are alone in it.

    split: what the file's name says, for arrays whose own names say none.
    """
    given = []
    for array in arrays:
        words, last = array.name, _LAST_WORD.fullmatch(file.stem)
        part = part_of(words)
        fits = part is not None and (may_be_images(array) if part[1] == "images" else may_be_labels(array))
        if len(arrays) == 1 and not fits and last is not None and part_of(last[2]):
            words = last[2]
        given.append(replace(array, role=words if not split or split_in(words) else f"{split} {words}"))
    return given


def _with_labels_beside(own: SplitArrays) -> SplitArrays:
    """Labels from the file that is called as that of the images is except for its last word: `..._x.h5`, `..._y.h5`."""
    file = own.images.file
    last = _LAST_WORD.fullmatch(file.stem)
    if own.labels is not None or last is None or part_of(last[2]) != ("", "images"):
        return own
    for word in LABEL_WORDS:
        beside = file.with_name(f"{last[1]}{word.upper() if last[2].isupper() else word}{file.suffix}")
        if not beside.is_file():
            continue
        arrays = _with_roles(in_file(beside), beside)
        labels = [array for array in arrays if part_of(array.words) and may_be_labels(array)]
        if len(labels) != 1:
            raise UserError(
                f"{beside} lies beside the images of {file.name} and has {len(labels)} arrays that are called labels",
                allowed="one array, called y, labels or targets",
                next="--label-column none",
            )
        return SplitArrays(own.images, replace(labels[0], inside=beside.name))
    return own
