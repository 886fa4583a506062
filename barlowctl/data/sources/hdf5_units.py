"""Pieces of a data set in HDF5 files, each a file or a group of one, and what folders and groups around them mean."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from barlowctl.data.labels.numbering import Labels
from barlowctl.data.names import written
from barlowctl.data.sources.array_images import ArrayImages
from barlowctl.data.sources.array_names import (
    SMALLEST,
    UNKNOWN,
    SplitArrays,
    called,
    may_be_an_image,
    may_be_images,
    may_be_labels,
    one_of_each,
    part_of,
)
from barlowctl.data.sources.hdf5_files import OneImage
from barlowctl.data.sources.read_options import ReadOptions
from barlowctl.data.sources.stored_array import StoredArray
from barlowctl.data.tree.arrangement import Arrangement, arrange, report_skipped, split_names, splits_of
from barlowctl.data.tree.scan_report import ScanReport
from barlowctl.data.tree.splits import SAME_SPLIT, choices, split_in
from barlowctl.data.tree.trees import NameTree, parts_of
from barlowctl.errors import UserError

KIND = "images in HDF5 files"
OTHER_SPLIT = "files of another split or none"


@dataclass(frozen=True)
class Unit:
    """Images with their labels.

    place: where they lie, with slashes: folders, then groups, and at the end the file, or of a single file the array.
    of: by the split that names of arrays and of the file say, "" for none.
    """

    place: str
    of: dict[str, SplitArrays]


def units_in_groups(path: Path, arrays: Sequence[StoredArray], report: ScanReport, options: ReadOptions) -> list[Unit]:
    """The groups of a file that have an array called images, or one image called so; what else they have is reported.

    Nothing is reported where there are none, which is so too where labels are named that its only group has not.

    Raises:
        UserError: labels are named that none of several groups has, or two arrays of a group may be the labels.
    """
    groups: dict[str, list[StoredArray]] = {}
    for array in arrays:
        group, _, name = array.name.rpartition("/")
        groups.setdefault(group, []).append(replace(array, role=name))
    units, others, beside = list[Unit](), list[StoredArray](), list[StoredArray]()
    for group, own in sorted(groups.items()):
        images = _images_of(own, options)
        labels = None if images is None else _labels_of(path, own, options)
        taken = [array for array in (images, labels) if images is not None and array is not None]
        others += [array for array in own if not any(array is one for one in taken)]
        if images is not None:
            beside += own
            folder, _, file = images.inside.rpartition("/")
            last = file or images.name.rpartition("/")[2]
            place = "/".join(part for part in (folder, group, last) if part)
            units.append(Unit(place, {"": _pair(images, labels)}))
    if options.label_column not in (None, "none") and not any(
        pair.labels for unit in units for pair in unit.of.values()
    ):
        if units[1:]:
            called(path, str(options.label_column), [array for array in beside if may_be_labels(array)], "labels")
        return []
    for array in others if units else ():
        report.skip(UNKNOWN, written(array.full_name))
    return units


def _images_of(arrays: Sequence[StoredArray], options: ReadOptions) -> StoredArray | None:
    named = [array for array in arrays if _is_called(array, options.image_column, "images")]
    many = [array for array in named if may_be_images(array)]
    alone = [array for array in named if may_be_an_image(array) and (array.encoded or _is_large(array))]
    chosen = many or alone
    return chosen[0] if len(chosen) == 1 else None


def _labels_of(path: Path, arrays: Sequence[StoredArray], options: ReadOptions) -> StoredArray | None:
    if options.label_column == "none":
        return None
    named = [array for array in arrays if _is_called(array, options.label_column, "labels")]
    chosen = [("", array) for array in named if may_be_labels(array) or _count(array) == 1]
    return one_of_each(path, chosen, "labels").get("")


def says_many(images: StoredArray) -> bool:
    """Whether an array of images is called so in the plural, or has four axes: it is no single image of bands."""
    return images.words.lower() not in ("image", "img") and may_be_images(images)


def _is_called(array: StoredArray, name: str | None, part: str) -> bool:
    return array.words == name if name is not None else (part_of(array.words) or ("", ""))[1] == part


def _is_large(array: StoredArray) -> bool:
    return sorted(array.shape)[-2] >= SMALLEST


def _count(array: StoredArray) -> int:
    return int(np.prod(array.shape, dtype=np.int64))


def _pair(images: StoredArray, labels: StoredArray | None) -> SplitArrays:
    if may_be_images(images):
        return SplitArrays(images, labels)
    rows = OneImage(images.file, images.name, images.encoded)
    one = replace(images, shape=(1, *images.shape), rows=lambda: rows)
    if labels is None or _count(labels) != 1:
        return SplitArrays(one)
    read = labels.read
    return SplitArrays(one, replace(labels, shape=(1,), read=lambda: np.asarray(read()).reshape(1)))


def of_units(path: Path, split: str, units: Sequence[Unit], report: ScanReport, options: ReadOptions) -> ArrayImages:
    """The images of a split, from all units. Folders and groups are read as an image folder's: as splits and classes.

    Labels in the files come before classes that folders are.

    Raises:
        UserError: no such split, or as `arrange` and `ArrayImages` do.
    """
    tree = NameTree(unit.place for unit in units)
    of_folders = splits_of(tree)
    if not of_folders and not any("/" in unit.place for unit in units):
        return ArrayImages(path, split, _by_names(units, report), report, KIND)
    inner = options.class_folders == "inner"
    arrangement = arrange(tree, split, str(path), common=True, inner=inner)
    if arrangement is None:
        names = split_names(tree)
        raise UserError(
            f"{path} has no {split} split",
            allowed=f"its folders: {', '.join(map(written, names))}",
            next=choices(split_in(name) for name in names),
        )
    chosen = _in_arrangement(units, arrangement)
    if of_folders:
        training = arrange(tree, "train", str(path), common=True, inner=inner) if split != "train" else None
        of = {"train": _of_split("train", _in_arrangement(units, training), ScanReport())} if training else {}
        of[split] = _of_split(split, chosen, report)
    else:
        of = _by_names([unit for unit, _ in chosen], report)
    labelled = any(pair.labels for pairs in of.values() for pair in pairs)
    numbers = {id(unit.of[name]): number for unit, number in chosen for name in unit.of}
    part = of.get(split) or of.get(SAME_SPLIT.get(split, split)) or of.get("", [])
    counts = [pair.images.shape[0] for pair in part]
    in_folders = np.repeat(np.array([numbers.get(id(pair), -1) for pair in part], np.int64), counts)
    if labelled and arrangement.classes:
        report.note("labels are those in the files, and no folder is a class")
    folders = Labels(in_folders, arrangement.class_names) if arrangement.classes and not labelled else None
    for note in arrangement.notes:
        report.note(re.sub(r"\bimage(s?)\b", r"file\1" if path.is_dir() else r"array\1", note))
    report_skipped(arrangement, report)
    opened = ArrayImages(path, split, of, report, KIND, folders)
    opened.choices, opened.splits = (*opened.choices, "class_folders"), of_folders or opened.splits
    return opened


def _in_arrangement(units: Sequence[Unit], arrangement: Arrangement) -> list[tuple[Unit, int]]:
    """The units that are read, each with the number of its class; -1: none."""
    label, depth = arrangement.labeller(), len(arrangement.root)
    chosen = []
    for unit in units:
        parts = parts_of(unit.place)
        number = label(parts[depth:]) if parts[:depth] == arrangement.root else None
        if number is not None:
            chosen.append((unit, number))
    return chosen


def _of_split(split: str, chosen: Sequence[tuple[Unit, int]], report: ScanReport) -> list[SplitArrays]:
    """Of units in a split's folder what their own names do not say to be of another split."""
    pairs = []
    for unit, _ in chosen:
        for name, pair in unit.of.items():
            if name in ("", split, SAME_SPLIT.get(split, split)):
                pairs.append(pair)
            else:
                report.skip(OTHER_SPLIT, written(pair.images.full_name))
    return pairs


def _by_names(units: Sequence[Unit], report: ScanReport) -> dict[str, list[SplitArrays]]:
    """By the splits that names say; where some say one, the others are reported."""
    of: dict[str, list[SplitArrays]] = {}
    for unit in units:
        for name, pair in unit.of.items():
            of.setdefault(name, []).append(pair)
    if "" in of and len(of) > 1:
        for pair in of.pop(""):
            report.skip(OTHER_SPLIT, written(pair.images.full_name))
    return of
