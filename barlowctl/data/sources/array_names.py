"""Which arrays of a file are images and which are labels, and of which split: by their names, else by their shapes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from barlowctl import shell
from barlowctl.channels import MOST_CHANNELS
from barlowctl.data.labels.numbering import LABEL_NAMES
from barlowctl.data.names import packed_as, written
from barlowctl.data.sources.stored_array import StoredArray
from barlowctl.data.tree.scan_report import ScanReport
from barlowctl.data.tree.splits import split_in
from barlowctl.errors import UserError, did_you_mean, instead

ALLOWED = (
    "an array of images (n x height x width, or with bands too) that is called images, x or data, and one of labels "
    "(labels, y); of several splits train_images, test_labels, x_train; another is taken with --image-column"
)
SMALLEST = 8
"""Pixels of a side of an array that is taken for an image without being called so."""
NAMED = 5
"""So many arrays are named in an error."""
UNKNOWN = "arrays that are neither images nor labels"

_IMAGES = frozenset(("images", "image", "imgs", "img", "pictures", "photos", "pixels", "data", "inputs", "x"))
_LABELS = frozenset((*(name for name in LABEL_NAMES if "_" not in name), "ans"))  # "ans" is Galaxy10's
_NO_IMAGES = frozenset((
    "feature", "features", "embedding", "embeddings", "logits", "mask", "masks", "weight", "weights", "kernel", "bias",
    "gamma", "beta", "optimizer", "coords",
))  # fmt: skip
"""Words of what is never taken for images unless it is named: measurements, masks, the weights of a network."""
LABEL_WORDS = ("y", "labels", "label", "targets", "target")
"""What ends the name of a file of labels beside that of the images."""
_FILLERS = frozenset(("set", "split", "all"))
_UNNAMED = re.compile(r"arr_\d+")  # what NumPy calls an array that was given without a name
_COLOURS = (1, 3, 4)
_ONE = ("image", "img")


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
    """Whether an array may hold many: of three axes the last then is no axis of colours or bands."""
    if array.encoded:
        return len(array.shape) == 1
    axes = len(array.shape)
    if array.dtype.kind not in "buif" or axes not in (3, 4):
        return False
    return axes == 4 or (array.shape[-1] not in _COLOURS and not is_an_image_of_bands(array))


def is_an_image_of_bands(array: StoredArray) -> bool:
    """Whether an array that is called image, in the singular, is a single one with bands: height x width x bands.

    Its last axis is shorter than a side of an image, or less than half of the others and not too many bands.
    """
    if len(array.shape) != 3 or array.words.rpartition("/")[2].lower() not in _ONE:
        return False
    height, width, last = array.shape
    shorter = min(height, width)
    return last < SMALLEST <= shorter or (last <= MOST_CHANNELS and 2 * last <= shorter)


def may_be_an_image(array: StoredArray) -> bool:
    """Whether an array may hold a single one: see `numpy_array.read`."""
    if array.encoded:
        return not array.shape
    return array.dtype.kind in "buif" and len(array.shape) in (2, 3)


def are_images(arrays: Sequence[StoredArray]) -> bool:
    """Whether each array of two axes or more is an image itself, and there are several: not a table, not weights."""
    of_axes = [array for array in arrays if array.encoded or len(array.shape) > 1]
    return len(of_axes) > 1 and all(
        may_be_an_image(array) and not says_no_images(array) and (array.encoded or sorted(array.shape)[-2] >= SMALLEST)
        for array in of_axes
    )


def by_split(
    path: Path,
    arrays: Sequence[StoredArray],
    report: ScanReport,
    image_name: str | None = None,
    label_name: str | None = None,
) -> dict[str, SplitArrays]:
    """Arrays by their split, "" where names say none. What is neither images nor labels of them is reported.

    Args:
        image_name, label_name: of the arrays to take, without the groups that they lie in; None: those that are called
            so; labels "none": none.

    Returns:
        {} where no array is called images, and not a single one may be them.

    Raises:
        UserError: two arrays that may be the same, or none of that name.
    """
    parts = [(array, *(part_of(array.words) or ("", ""))) for array in arrays]
    if image_name is not None:
        many = [array for array in arrays if may_be_images(array)]
        if not many:
            raise no_images_in(path, arrays)
        of_name = called(path, image_name, many, "images")
        images = one_of_each(path, [(split_in(array.words) or "", array) for array in of_name], "images")
    else:
        of_words = [(split, array) for array, split, part in parts if part == "images" and may_be_images(array)]
        images = one_of_each(path, of_words, "images")
    if not images:
        candidates = [array for array in arrays if may_be_images(array) and _has_no_known_word(array)]
        if len(candidates) != 1:
            return {}
        images = {split_in(array.words) or "": array for array in candidates}
    if label_name not in (None, "none"):
        others = [array for array in arrays if may_be_labels(array) and not any(array is a for a in images.values())]
        of_name = called(path, str(label_name), others, "labels")
        of_split = [(split_in(array.words) or "", array) for array in of_name]
    else:
        of_split = [(split, array) for array, split, part in parts if part == "labels" and may_be_labels(array)]
    labels = one_of_each(path, [(split, array) for split, array in of_split if split in images], "labels")
    if not labels and len(images) == 1:
        ((split, own),) = images.items()
        unnamed = [array for array in arrays if array is not own and _UNNAMED.fullmatch(array.name)]
        if alike := [a for a in unnamed if a.shape[:1] == own.shape[:1] and len(a.shape) in (1, 2)]:
            labels = {split: alike[0]}
    if label_name == "none":
        labels = {}
    taken = [*images.values(), *labels.values()]
    for array in arrays:
        if not any(array is other for other in taken):
            report.skip(UNKNOWN, written(array.full_name))
    return {split: SplitArrays(own, labels.get(split)) for split, own in images.items()}


def no_images_in(path: Path, arrays: Sequence[StoredArray]) -> UserError:
    """What to say of a file none of whose arrays is taken for images: which it has, and how to choose one."""
    named = [str(array) for array in arrays[:NAMED]] + (["..."] if len(arrays) > NAMED else [])
    candidates = [array for array in arrays if may_be_images(array) and not says_no_images(array)]
    return UserError(
        f"{path} has no array that is known for images: {', '.join(named) or 'it has no arrays'}",
        allowed=ALLOWED,
        next=_take_images(path, candidates) if candidates else "name another file",
    )


def may_be_labels(array: StoredArray) -> bool:
    """Whether an array may have a label of each image, or a row: PatchCamelyon's are n x 1 x 1 x 1."""
    return not array.encoded and (len(array.shape) in (1, 2) or (len(array.shape) > 2 and set(array.shape[1:]) == {1}))


def _has_no_known_word(array: StoredArray) -> bool:
    return part_of(array.words) is None and not says_no_images(array)


def says_no_images(array: StoredArray) -> bool:
    return not _NO_IMAGES.isdisjoint(re.findall("[a-z]+", array.words.lower()))


Part = Literal["images", "labels"]


def called(path: Path, name: str, arrays: Sequence[StoredArray], part: Part) -> list[StoredArray]:
    """The arrays of a name, with the groups that they lie in or without.

    Raises:
        UserError: there is none.
    """
    of_name = [array for array in arrays if array.name == name or array.name.endswith(f"/{name}")]
    if of_name:
        return of_name
    there = list(dict.fromkeys(array.name.rpartition("/")[2] for array in arrays))
    what = f"'{name}'{did_you_mean(name, there)}, and {path} has no such array"
    allowed = ", ".join(map(str, arrays[:NAMED])) or ALLOWED
    if part == "images":
        other = instead("--image-column", name, there)
        raise UserError(f"--image-column is {what}", allowed=allowed, next=other)
    other = instead("--label-column", name, [*there, "none"])
    raise UserError(f"--label-column is {what}", allowed=f"{allowed}; none: without labels", next=other)


def one_of_each(path: Path, arrays: Sequence[tuple[str, StoredArray]], part: Part) -> dict[str, StoredArray]:
    """The array of each split.

    Raises:
        UserError: two of one split.
    """
    named: dict[str, StoredArray] = {}
    for split, array in arrays:
        if split in named:
            of_two = [named[split], array]
            take = _take_images(path, of_two) if part == "images" else _take_labels(path, of_two)
            raise UserError(
                f"{path}: {named[split]} and {array} may be the same {part}",
                allowed=ALLOWED,
                next="rename one of them" if path.is_dir() and array.file.suffix == ".npy" else take,
            )
        named[split] = array
    return named


def _take_images(path: Path, arrays: Sequence[StoredArray]) -> str:
    """What to type to take one of them."""
    lines = (
        shell.line("barlowctl", "data", "pack", path, packed_as(path), "--image-column", array.name)
        for array in arrays[:NAMED]
    )
    return "\n".join(lines)


def _take_labels(path: Path, arrays: Sequence[StoredArray]) -> str:
    lines = (
        shell.line("barlowctl", "data", "pack", path, packed_as(path), "--label-column", array.name)
        for array in arrays[:NAMED]
    )
    return "\n".join(lines)
