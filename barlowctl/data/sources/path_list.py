"""Images that a text file lists."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote_to_bytes

import numpy as np

from barlowctl.data.labels.label_table import records_with
from barlowctl.data.labels.numbering import Labels, number_labels
from barlowctl.data.labels.text_table import Table, read_table
from barlowctl.data.names import written
from barlowctl.data.sources.picture import Picture, Source
from barlowctl.data.tree.regular import read_regular
from barlowctl.data.tree.splits import SAME_SPLIT, choices
from barlowctl.errors import UserError

_DRIVE = re.compile(r"[A-Za-z]:[\\/]|\\\\[^\\]")
_ADDRESS = re.compile(r"([a-z][a-z0-9+.-]+)://", re.IGNORECASE)
_UNUSUAL = re.compile(r"^[\s\"'~#]|[\s\"']$|\\|^[\w+.-]+:|[^\x20-\x7e]")


class PathList(Source):
    """A text file that lists images, a path a line, from the file's own folder on (`text_table`).

    A label may follow after a tab, a comma, or spaces; columns with names and JSON lines may have a label and a split.
    Paths may be quoted, begin with `~` or `file://`, and have backslashes. Blank lines and those that begin with `#`
    are skipped.

    Raises:
        UserError: no paths, labels on some lines only, an address or a Windows drive, no such split, or none of the
            files is there; names the line.
    """

    def __init__(self, path: Path, split: str) -> None:
        self.kind, self.path, self.split = "images of a list of paths", path, split
        try:
            table = read_table(path, read_regular(path))
        except OSError as error:
            raise UserError(f"{path} cannot be read: {error.strerror or error}") from error
        rows, self.splits = _rows_of(table, split, path), {name for name in table.splits or () if name}
        find = Finder(path)
        self._names = [table.paths[at] if table.exact else find(table.paths[at], table.lines[at]) for at in rows]
        self._labels, self.class_names = np.full(len(rows), -1, dtype=np.int64), []
        if table.labels is not None:
            labels = _labels_of(table, rows, split, f"{path}: {table.label}")
            self._labels, self.class_names = labels.numbers, labels.class_names
            table.notes += labels.notes
        for note in table.notes:
            self.scan_report.note(note)
        if not any(os.path.exists(path.parent / name) for name in self._names):
            raise _nothing_there(path, self._names[0], table.lines[rows[0]])

    def __len__(self) -> int:
        return len(self._names)

    def describe(self, index: int) -> tuple[str, int]:
        return self._names[index], int(self._labels[index])

    def __getitem__(self, index: int) -> Picture:
        name, label = self.describe(index)
        return Picture(name, label, read_regular(self.file(index)))

    def column(self, name: str) -> list[object]:
        table = read_table(self.path, read_regular(self.path))
        records = records_with(name, table, self.path)
        return [records[row].get(name) for row in _rows_of(table, self.split, self.path)]

    def file(self, index: int) -> Path:
        return self.path.parent / self._names[index]


class Finder:
    """Paths as they are written in a list -> as they are on the disk, relative to the list's folder or absolute."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __call__(self, text: str, line: int) -> str:
        """The first reading of `text` that is there; the plainest where none is.

        Raises:
            UserError: an address, or a path with a Windows drive.
        """
        if not _UNUSUAL.search(text):
            return text
        readings = [reading for reading in dict.fromkeys(_readings(text)) if "\0" not in reading]
        if not readings:
            raise UserError(
                f"{self._path}, line {line}: '{written(text)}' has a NUL in it",
                allowed="a path a line",
                next="write one path a line",
            )
        for reading in readings:
            if os.path.lexists(self._path.parent / reading):
                return reading
        plain = text.strip().strip("\"'")
        if drive := _DRIVE.match(plain):
            raise UserError(
                f"{self._path}, line {line}: '{written(plain)}' is a path of Windows",
                allowed="paths of this machine, or from the list's own folder on",
                next=f"write the list anew without '{drive[0]}', its paths from the list's folder on",
            )
        if _ADDRESS.match(plain) and not plain.lower().startswith("file:"):
            raise UserError(
                f"{self._path}, line {line}: '{written(plain)}' is an address",
                allowed="files",
                next="download the images, then list the files",
            )
        return readings[-1] if plain.lower().startswith("file:") else plain


def _readings(text: str) -> Iterator[str]:
    """What a line may mean, most literal first: spaces, quotes, `~`, file:// and backslashes taken off one by one."""
    yield text
    text = text.strip()
    yield text
    if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'":
        text = text[1:-1]
        yield text
    if text.lower().startswith("file:"):
        place = re.sub("(?i)^file:(//(localhost)?(?=/))?", "", text)
        text = os.fsdecode(unquote_to_bytes(os.fsencode(place)))
        yield text
    text = os.path.expanduser(text)
    yield text
    slashes = text.replace("\\", "/")
    yield slashes
    yield from (unicodedata.normalize("NFC", slashes), unicodedata.normalize("NFD", slashes))
    data = os.fsencode(slashes)
    for encoding in ("cp1252", "cp850"):  # a list of Notepad's ANSI, of files called in UTF-8
        if not data.isascii():
            decoded = data.decode(encoding, "replace")
            yield from (unicodedata.normalize("NFC", decoded), unicodedata.normalize("NFD", decoded))
    yield slashes


def _rows_of(table: Table, split: str, path: Path) -> np.ndarray:
    """Which rows are of a split."""
    if table.splits is None:
        return np.arange(len(table.paths))
    for name in (split, SAME_SPLIT.get(split)):
        if name and (rows := [at for at, row_split in enumerate(table.splits) if row_split == name]):
            return np.array(rows)
    have = sorted({row_split for row_split in table.splits if row_split})
    raise UserError(f"{path} has no {split} split", allowed=f"it has {', '.join(have)}", next=choices(have))


def _labels_of(table: Table, rows: np.ndarray, split: str, what: str) -> Labels:
    """Labels of the rows; their classes are those of the training rows."""
    assert table.labels is not None
    train = [] if table.splits is None else [at for at, row_split in enumerate(table.splits) if row_split == "train"]
    training_classes = None
    if train and split != "train":
        training_classes = number_labels([table.labels[at] for at in train], what).class_names or None
    return number_labels([table.labels[at] for at in rows], what, training_classes=training_classes)


def _nothing_there(path: Path, name: str, line: int) -> UserError:
    beside = sorted(folder for folder in path.parent.absolute().iterdir() if folder.is_dir())
    begin = next((folder for folder in (Path.cwd(), *beside) if os.path.exists(folder / name)), None)
    return UserError(
        f"{path}, line {line}: '{written(name)}' is not there, nor is any other of the list",
        allowed=f"a file with a path a line, absolute or from the list's folder on ({path.parent.absolute()})",
        next=f"move the list to {begin}, where its paths begin" if begin is not None else None,
    )
