"""Which of NumPy's arrays are images and which are labels, and of which split: by their names, else by their shapes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from barlowctl.data.labels.numbering import LABEL_NAMES
from barlowctl.data.names import written
from barlowctl.data.sources.numpy_files import StoredArray
from barlowctl.data.tree.scan_report import ScanReport
from barlowctl.data.tree.splits import split_in
from barlowctl.errors import UserError

ALLOWED = (
    "an array of images (n x height x width, or with bands too) that is called images, x or data, and one of labels "
    "(labels, y); of several splits train_images, test_labels, x_train"
)
UNKNOWN = "arrays that are neither images nor labels"

_IMAGES = frozenset(("images", "image", "imgs", "img", "pictures", "photos", "pixels", "data", "inputs", "x"))
_LABELS = frozenset(name for name in LABEL_NAMES if "_" not in name)
_FILLERS = frozenset(("set", "split", "all"))
_UNNAMED = re.compile(r"arr_\d+")  # what NumPy calls an array that was given without a name
_COLOURS = (1, 3, 4)


@dataclass
class SplitArrays:
    """Of one split: its images, and their labels if there are any."""

    images: StoredArray
    labels: StoredArray | None = None


def part_of(name: str) -> tuple[str, Literal["images", "labels"]] | None:
    """The split that an array's name says, "" for none, and what it holds; None where the name has other words too."""
    if not name.isascii() or not re.fullmatch(r"[A-Za-z_\- ./]+", name):
        return None
    words = re.findall("[a-z]+", re.sub("(?<=[a-z])(?=[A-Z])", " ", name).lower())
    splits = [split for word in words if (split := split_in(word))]
    rest = {word for word in words if not split_in(word)} - _FILLERS
    if len(splits) > 1 or not rest or rest - _IMAGES - _LABELS:
        return None
    return (splits[0] if splits else "", "labels" if rest & _LABELS else "images")


def may_be_images(array: StoredArray) -> bool:
    """Whether an array may hold many: of three axes the last then is no axis of colours."""
    axes = len(array.shape)
    return array.dtype.kind in "buif" and (axes == 4 or (axes == 3 and array.shape[-1] not in _COLOURS))


def may_be_an_image(array: StoredArray) -> bool:
    """Whether an array may hold a single one: see `numpy_array.read`."""
    return array.dtype.kind in "buif" and len(array.shape) in (2, 3)


def by_split(path: Path, arrays: Sequence[StoredArray], report: ScanReport) -> dict[str, SplitArrays]:
    """Arrays by their split, "" where names say none. What is neither images nor labels of them is reported.

    Returns:
        {} where no array is called images, and not a single one may be them.

    Raises:
        UserError: two arrays that may be the same.
    """
    parts = [(array, *(part_of(array.name) or ("", ""))) for array in arrays]
    images = _named(path, [(split, array) for array, split, part in parts if part == "images" and may_be_images(array)])
    if not images:
        candidates = [array for array in arrays if may_be_images(array) and part_of(array.name) is None]
        if len(candidates) != 1:
            return {}
        images = {split_in(array.name) or "": array for array in candidates}
    labels = _named(
        path,
        [
            (split, array)
            for array, split, part in parts
            if part == "labels" and split in images and len(array.shape) in (1, 2)
        ],
    )
    if not labels and len(images) == 1:
        ((split, own),) = images.items()
        unnamed = [array for array in arrays if array is not own and _UNNAMED.fullmatch(array.name)]
        if alike := [a for a in unnamed if a.shape[:1] == own.shape[:1] and len(a.shape) in (1, 2)]:
            labels = {split: alike[0]}
    taken = [*images.values(), *labels.values()]
    for array in arrays:
        if not any(array is other for other in taken):
            report.skip(UNKNOWN, written(array.name))
    return {split: SplitArrays(own, labels.get(split)) for split, own in images.items()}


def _named(path: Path, arrays: Sequence[tuple[str, StoredArray]]) -> dict[str, StoredArray]:
    named: dict[str, StoredArray] = {}
    for split, array in arrays:
        if split in named:
            raise _ambiguous(path, named[split], array)
        named[split] = array
    return named


def _ambiguous(path: Path, one: StoredArray, other: StoredArray) -> UserError:
    return UserError(
        f"{path}: '{written(one.name)}' and '{written(other.name)}' may be the same images or labels",
        allowed=ALLOWED,
        next="rename one of them",
    )
