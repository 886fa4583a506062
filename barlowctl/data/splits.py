"""The splits of a data set: their names, and how folders and shards call them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from barlowctl.errors import UserError

SPLITS = ("train", "val", "test", "unlabelled")
FOLDERS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "test"),
    "test": ("test", "val", "valid", "validation"),
    "unlabelled": ("unlabelled", "unlabeled"),
}
"""A split's possible folder names, best first."""

SPLIT_WORDS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "test"),
    "test": ("test", "val", "valid", "validation"),
    "unlabelled": ("unlabelled", "unlabeled", "unsupervised"),
}
"""How splits are called in the names of shards, best first."""


def of_split(files: Sequence[Path], split: str) -> list[Path]:
    """The shards of a split, by the words in their names; all of them where no name says a split.

    Raises:
        UserError: their names say splits, but not this one.
    """
    words = {file: set(re.split(r"[^a-z]+", file.name.lower())) for file in files}
    every = {word for group in SPLIT_WORDS.values() for word in group}
    if not any(found & every for found in words.values()):
        return list(files)
    for word in SPLIT_WORDS[split]:
        if chosen := [file for file in files if word in words[file]]:
            return chosen
    raise UserError(
        f"{files[0].parent} has no {split} split",
        allowed=f"its files: {files[0].name}, ...",
        next="choose one with --split, or give the files of one split",
    )
