"""Data sets in arrays, whatever kind of file these lie in: the images of a split, from one array or several."""

from __future__ import annotations

import bisect
import itertools
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from barlowctl.data.images.array_axes import stored
from barlowctl.data.labels.numbering import Labels, are_numbers, classes_of_columns, number_labels
from barlowctl.data.names import written
from barlowctl.data.sources.array_names import SplitArrays
from barlowctl.data.sources.picture import Picture, Source
from barlowctl.data.sources.stored_array import StoredArray
from barlowctl.data.tree.scan_report import ScanReport
from barlowctl.data.tree.splits import SAME_SPLIT, SPLITS, choices
from barlowctl.errors import UserError


class ArrayImages(Source):
    """The images of a split in arrays of any number type; each is read as `numpy_array` reads one.

    Args:
        kind: `images in ...`.
        of: arrays by their split, see `array_names.by_split`; at least one array.
        folders: labels of all images of the split that the folders around their files say; None: those in `of`.

    Raises:
        UserError: no such split, no images, or labels of another number of images.
    """

    choices: tuple[str, ...] = ("image_column", "label_column")

    def __init__(
        self,
        path: Path,
        split: str,
        of: Mapping[str, Sequence[SplitArrays]],
        report: ScanReport,
        kind: str,
        folders: Labels | None = None,
    ) -> None:
        self.path, self.split, self.kind, self.scan_report = path, split, kind, report
        name = next((name for name in (split, SAME_SPLIT.get(split, split), "") if name in of), None)
        if name is None:
            there = ", ".join(written(own.images.full_name) for parts in of.values() for own in parts[:1])
            raise UserError(
                f"{path} has no {split} split",
                allowed=f"its arrays: {there}",
                next=choices(n for n in SPLITS if n in of),
            )
        self.splits = {name for name in of if name}
        parts, of_all = of[name], itertools.chain(*of.values())
        taken = [array for own in of_all for array in (own.images, own.labels) if array]
        self.files = list(dict.fromkeys(array.file for array in taken))
        self._names = [written(own.images.full_name) for own in parts]
        self._rows = [own.images.images() for own in parts]
        self.in_chunks = max(getattr(rows, "together", 1) for rows in self._rows)
        self._ends = list(itertools.accumulate(map(len, self._rows)))
        if not self._ends[-1]:
            raise UserError(f"{path}: '{self._names[0]}' holds no images", next="name another file")
        beside = [own.labels.inside for own in parts if own.labels and own.labels.inside != own.images.inside]
        if beside:
            more = f" and {len(beside) - 1} more" if beside[1:] else ""
            self.scan_report.note(f"labels are those of {written(beside[0])}{more}")
        training = of["train"] if "train" in of and name != "train" else ()
        labels = folders or _labels(parts, training, path)
        self._labels, self.class_names = labels.numbers, labels.class_names
        for note in labels.notes:
            self.scan_report.note(note)

    def __len__(self) -> int:
        return self._ends[-1]

    def _place(self, index: int) -> tuple[int, int]:
        """Which array an image is in, and its row there."""
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        part = bisect.bisect_right(self._ends, index := index % len(self))
        return part, index - (self._ends[part - 1] if part else 0)

    def describe(self, index: int) -> tuple[str, int]:
        part, row = self._place(index)
        return f"{self._names[part]}[{row}]", int(self._labels[index])

    def __getitem__(self, index: int) -> Picture:
        part, row = self._place(index)
        values = self._rows[part][row]
        return Picture(*self.describe(index), values if isinstance(values, bytes) else stored(np.asarray(values)))

    def extent(self, index: int) -> tuple[int, int]:
        part, row = self._place(index)
        if not isinstance(rows := self._rows[part], np.ndarray):
            return super().extent(index)
        values = np.ascontiguousarray(rows[row])
        return values.nbytes, zlib.crc32(values.data)


def _labels(parts: Sequence[SplitArrays], training: Sequence[SplitArrays], path: Path) -> Labels:
    images = [own.images.shape[0] for own in parts]
    for own, count in zip(parts, images, strict=True):
        if own.labels is not None and own.labels.shape[:1] != (count,):
            raise UserError(
                f"{path}: {own.labels.shape[0]:,} labels in '{written(own.labels.full_name)}', and {count:,} images",
                next="copy it again",
            )
    arrays = [own.labels for own in parts if own.labels is not None]
    if not arrays:
        return Labels(np.full(sum(images), -1, np.int64), [])
    of_training = [own.labels for own in training if own.labels is not None]
    known = _numbered(of_training).class_names or None if of_training else None
    labels = _numbered(arrays, known)
    if len(arrays) == len(parts):
        return labels
    numbers = np.full(sum(images), -1, np.int64)
    labelled = np.repeat([own.labels is not None for own in parts], images)
    numbers[labelled] = labels.numbers
    return Labels(numbers, labels.class_names, labels.notes)


def _numbered(arrays: Sequence[StoredArray], known: list[str] | None = None) -> Labels:
    """Numbers, words, or a column for each class with a single 1; a column alone is that of the numbers."""
    what = f"the labels in '{written(arrays[0].full_name)}'" + (f" and {len(arrays) - 1} more" if arrays[1:] else "")
    if any(array.dtype.hasobject for array in arrays):
        note = f"{what} are Python objects, which are not loaded (they could run code): not used as classes"
        return Labels(np.full(sum(array.shape[0] for array in arrays), -1, np.int64), [], (note,))
    read = [array.read().reshape(array.shape[0], -1) for array in arrays]
    if other := [array for array, values in zip(arrays, read, strict=True) if values.shape[1] != read[0].shape[1]]:
        raise UserError(
            f"{what}: labels of another form in '{written(other[0].full_name)}'", next="give each file as a data set"
        )
    values = np.concatenate(read) if read[1:] else read[0]
    if values.shape[1] == 1:
        values = values[:, 0]
    elif (classes := classes_of_columns(values)) is not None:
        return number_labels(classes, what, training_classes=known)
    if values.dtype.kind == "S":
        values = np.char.decode(values, "utf-8", "backslashreplace")
    whole = values.dtype.kind in "iu" or (values.dtype.kind == "f" and bool((values == np.floor(values)).all()))
    if values.ndim == 1 and whole and all(array.from_one for array in arrays):
        return _from_one(values.astype(np.int64), what, known)
    return number_labels(values.tolist(), what, training_classes=known)


def _from_one(values: np.ndarray, what: str, known: list[str] | None) -> Labels:
    """Of numbers that begin at 1 the classes are 1, 2, ...; those with a 0 among them begin there."""
    if known is not None and not are_numbers(known):
        return number_labels([str(value) for value in values.tolist()], what, training_classes=known)
    labels = number_labels(values.tolist(), what, training_classes=known)
    if not labels.class_names or known is not None or not are_numbers(labels.class_names) or (values == 0).any():
        return labels
    numbers = np.where(labels.numbers > 0, labels.numbers - 1, labels.numbers)
    return replace(labels, numbers=numbers, class_names=labels.class_names[1:])
