"""Images that a text file lists, a path a line."""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np

from barlowctl.data.class_numbers import MAX_CLASSES, numbered_classes
from barlowctl.data.picture import Picture, Source
from barlowctl.data.regular import read_regular
from barlowctl.errors import UserError


class PathList(Source):
    """A text file with a path a line, from the file's own folder on; a label may follow, a number or a word.

    A label stands after a tab, or after the last space when every line ends in a whole number.

    Raises:
        UserError: no paths, or labels on some lines only.
    """

    def __init__(self, path: Path, split: str) -> None:
        self.kind, self.path, self.split = "a list of paths", path, split
        try:
            lines = [line for line in path.read_text(encoding="utf-8", errors="surrogateescape").splitlines() if line]
        except OSError as error:
            raise UserError(f"{path} cannot be read: {error.strerror}") from error
        if not lines:
            raise UserError(f"{path} lists no images", next="write one path a line")
        parts = [line.split("\t") for line in lines]
        if not any(len(part) > 1 for part in parts) and all(re.search(r"\S\s+\d+\s*$", line) for line in lines):
            parts = [line.rsplit(maxsplit=1) for line in lines]
        wrong = next((n for n, part in enumerate(parts) if len(part) != len(parts[0]) or len(part) > 2), None)
        if wrong is not None:
            raise UserError(
                f"{path}, line {wrong + 1}: {len(parts[wrong])} columns where the first line has {len(parts[0])}",
                allowed="a path, or a path and a label with a tab between, on every line alike",
            )
        self._names = [part[0].strip() for part in parts]
        self.class_names, self._labels = _as_labels([part[1].strip() for part in parts if len(part) > 1], path)
        self._labels = self._labels if self.class_names else np.full(len(parts), -1)

    def __len__(self) -> int:
        return len(self._names)

    def describe(self, index: int) -> tuple[str, int]:
        return self._names[index], int(self._labels[index])

    def __getitem__(self, index: int) -> Picture:
        name, label = self.describe(index)
        return Picture(name, label, read_regular(self.path.parent / os.path.expanduser(name)))


def _as_labels(words: list[str], path: Path) -> tuple[list[str], np.ndarray]:
    """Class names and positions among them: whole numbers are the positions, other words are sorted."""
    if not words:
        return [], np.empty(0, np.int64)
    if all(word.isdecimal() for word in words):
        longest = max(words, key=lambda word: len(word.lstrip("0")))
        if len(longest.lstrip("0")) > len(str(MAX_CLASSES)):  # before `int`, which refuses thousands of digits
            raise UserError(f"{path} has the class number {longest[:40]}", allowed=f"0 to {MAX_CLASSES - 1:,}")
        labels = np.array([int(word) for word in words])
        return numbered_classes(int(labels.max()), str(path)), labels
    names = sorted(set(words))
    positions = {name: position for position, name in enumerate(names)}
    return names, np.array([positions[word] for word in words])
