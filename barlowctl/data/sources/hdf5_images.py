"""Data sets in HDF5 files: images and labels in one file or in two, one file or a folder of them.

PatchCamelyon's two files of each split, Galaxy10's one, a file of tiles for each slide. Which array is which is said by
its name (`array_names`), else by that of its file; a file's name also says the split where a folder is read.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from barlowctl.data.images import formats
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
from barlowctl.data.sources.hdf5_units import KIND, Unit, of_units, says_many, units_in_groups
from barlowctl.data.sources.picture import Source
from barlowctl.data.sources.read_options import ReadOptions
from barlowctl.data.sources.stored_array import StoredArray
from barlowctl.data.tree.regular import read_head
from barlowctl.data.tree.scan import Scan, system_or_hidden
from barlowctl.data.tree.scan_report import ScanReport
from barlowctl.data.tree.splits import split_in
from barlowctl.errors import UserError

ENDINGS = (".h5", ".hdf5", ".he5")
_LAST_WORD = re.compile(r"(?i)(.*?)([a-z]+)$")


def open_hdf5(path: Path, split: str, options: ReadOptions) -> Source:
    """An HDF5 file with images; labels in it, or in the file beside it (`x.h5` and `y.h5`, `_images` and `_labels`).

    Raises:
        UserError: h5py is not there, a damaged file, no images in it, or as `array_names.by_split` does.
    """
    report, arrays = ScanReport(), _with_roles(in_file(path), path)
    try:
        of, unclear = by_split(path, arrays, report, options.image_column, options.label_column), None
    except UserError as error:
        of, unclear = {}, error
    if of:
        if len(of) == 1 and options.label_column is None:
            of = {name: _with_labels_beside(own) for name, own in of.items()}
        return ArrayImages(path, split, {name: [own] for name, own in of.items()}, report, KIND)
    units = units_in_groups(path, arrays, report, options)
    clear = any(pair.labels or says_many(pair.images) for unit in units for pair in unit.of.values())
    if unclear is None and not clear and are_images(arrays):
        return Hdf5Groups(path, split, options.class_folders)
    if units:
        return of_units(path, split, units, report, options)
    raise unclear or no_images_in(path, arrays)


def hdf5_files_in(folder: Path) -> list[Path]:
    """HDF5 files that lie directly in a folder, by their endings, and MATLAB's that are such, sorted."""
    return [
        file
        for file in sorted(folder.iterdir())
        if not system_or_hidden(file.name, folder=False) and file.is_file() and _is_hdf5(file)
    ]


def _is_hdf5(file: Path) -> bool:
    if file.suffix.lower() != ".mat":
        return file.suffix.lower() in ENDINGS
    with suppress(OSError):
        return formats.by_content(read_head(file)) is formats.HDF5
    return False


def open_hdf5_folder(folder: Path, split: str, options: ReadOptions) -> ArrayImages | None:
    """The HDF5 files in a folder as one data set, in the order of their names; None where there are none.

    Those in folders below are read where none, or none with images, lies directly in it; their folders may be splits
    and classes.

    Raises:
        UserError: none has images, or as `open_hdf5` does.
    """
    report, beside = ScanReport(), ScanReport()
    names = Scan(folder, beside, also=formats.HDF5).walk()
    direct = [file.name for file in hdf5_files_in(folder)]
    below = [name for name in names if os.sep in name]
    if direct:
        try:
            opened = _of_files(folder, direct, split, report, options)
        except UserError:
            if not below:
                raise
        else:
            for name in below:
                report.skip("HDF5 files in folders below", name)
            Scan(folder, report).images(but=direct)
            return opened
    return _of_files(folder, names, split, beside, options) if below else None


def _of_files(folder: Path, names: Sequence[str], split: str, report: ScanReport, options: ReadOptions) -> ArrayImages:
    units, without = list[Unit](), list[tuple[Path, list[StoredArray]]]()
    for name in names:
        file = folder / name
        named = [replace(array, inside=name) for array in in_file(file)]
        arrays = _with_roles(named, file, split_in(file.stem) or "")
        try:
            own, unclear = by_split(folder, arrays, report, options.image_column, options.label_column), None
        except UserError as error:
            own, unclear = {}, error
        if own:
            beside = options.label_column is None and len(own) == 1
            units.append(Unit(name, {of: _with_labels_beside(pair) if beside else pair for of, pair in own.items()}))
        elif in_groups := units_in_groups(folder, arrays, report, options):
            units += in_groups
        elif unclear is not None:
            raise unclear
        else:
            without.append((file, arrays))
    if not units:
        raise no_images_in(folder, [array for _, arrays in without for array in arrays])
    pairs = [pair for unit in units for pair in unit.of.values()]
    taken = {array.file for pair in pairs for array in (pair.images, pair.labels) if array}
    for file, arrays in without:
        for array in arrays if file not in taken else ():
            report.skip(UNKNOWN, array.full_name)
    return of_units(folder, split, units, report, options)


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
        return SplitArrays(own.images, replace(labels[0], inside=_beside(own.images.inside, beside)))
    return own


def _beside(inside: str, file: Path) -> str:
    """What to call a file beside another one, which is called `inside`."""
    return f"{os.path.dirname(inside)}/{file.name}" if os.path.dirname(inside) else file.name
