"""A test split of labelled images that have none: some of each class, the same ones every time."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from barlowctl.data.sources.picture import Picked, Source
from barlowctl.data.tree.splits import choices
from barlowctl.errors import UserError

_SPLITS = ("train", "test")


class Part(Picked):
    """The training images that are left, or those that are held out."""

    splits: Collection[str] = _SPLITS

    def __init__(self, source: Source, rows: np.ndarray, split: str) -> None:
        super().__init__(source, rows)
        self.split, self.files = split, source.files


def part(source: Source, split: str, percent: int, there: Collection[str]) -> Part:
    """The images of `source`, opened as its training split, that are of a split; those without a label are trained on.

    Args:
        percent: of each class. One image at least is held out of a class of two or more, and one stays.
        there: other splits that the images have.

    Raises:
        UserError: they have a test split, or no class has two labelled images.
    """
    if there:
        raise UserError(
            f"--hold-out is {percent}, but {source.path} has held-out images: {', '.join(there)}",
            allowed="--hold-out where there is one split",
            next="without --hold-out",
        )
    if split not in _SPLITS:
        raise UserError(
            f"--hold-out makes no {split} split", allowed=f"--split {' and '.join(_SPLITS)}", next=choices(_SPLITS)
        )
    labels = np.array([source.describe(row)[1] for row in range(len(source))], np.int64)
    held = held_out_of_each(labels, percent)
    if not len(held):
        raise UserError(
            f"--hold-out is {percent}, but no class of {source.path} has two labelled images",
            allowed="class folders, or a table of labels beside the images (docs/data.md)",
            next="--class-folders inner" if source.other_classes else "without --hold-out",
        )
    rows = held if split == "test" else np.setdiff1d(np.arange(len(labels)), held)
    return Part(source, rows, split)


def held_out_of_each(labels: np.ndarray, percent: int) -> np.ndarray:
    """Positions that are held out of each class, sorted: a draw that depends on nothing but the labels' order."""
    held = []
    for label in np.unique(labels[labels >= 0]):
        rows = np.flatnonzero(labels == label)
        count = min(max(round(len(rows) * percent / 100), 1), len(rows) - 1)
        order = np.random.Generator(np.random.Philox(key=int(label))).permutation(len(rows))
        held.append(rows[order[:count]])
    return np.sort(np.concatenate(held)) if held else np.zeros(0, np.int64)
