"""A table beside images with their labels: metadata.csv or .jsonl (as Hugging Face has it), labels.csv, train.csv."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from barlowctl.data.account import Account
from barlowctl.data.names import written
from barlowctl.data.regular import read_regular
from barlowctl.data.scan import system_or_hidden
from barlowctl.data.splits import split_in
from barlowctl.data.text_table import Table, read_table
from barlowctl.errors import UserError

_ENDINGS = (".csv", ".tsv", ".jsonl", ".json", ".txt")
_MANY = 20
"""Files of one ending in a folder: more lie beside images, one each."""
_LARGEST = 1 << 28
"""Bytes of a table that is looked into."""


@dataclass(frozen=True)
class LabelTable:
    """Labels of images from a table.

    file: the table.    values: one an image, None where the table has none.    what: the labels in words.
    splits: split that the table says of each image, None for none; empty where it has no column of splits.
    """

    file: Path
    values: list[Any]
    what: str
    splits: list[str | None] = field(default_factory=list)
    notes: tuple[str, ...] = ()


def find_label_table(
    folders: Sequence[Path], place: Path, names: Sequence[str], split: str, account: Account
) -> LabelTable | None:
    """The table that labels most of the images; None where none labels any.

    Args:
        folders: where tables are looked for. place: the folder that `names` begin in.
        split: a table that is called after another split and lies above the split's own folder is not taken.
        account: is told of tables whose labels cannot be used.
    """
    best, most = None, 0
    for folder in folders:
        for file in _tables(folder):
            own = folder == place and len(folders) > 1  # the split's own folder
            if not own and split_in(file.stem) not in (None, split):
                continue
            found = _read(file, place, names, account)
            if found is not None and (count := sum(value is not None for value in found.values)) > most:
                best, most = found, count
    return best


def _tables(folder: Path) -> list[Path]:
    """What may be a table in a folder, sorted: of an ending with few files."""
    found = sorted(file for file in folder.iterdir() if _is_table(file))
    counts = Counter(file.suffix.lower() for file in found)
    return [file for file in found if counts[file.suffix.lower()] <= _MANY]


def _is_table(file: Path) -> bool:
    if file.suffix.lower() not in _ENDINGS or system_or_hidden(file.name, folder=False):
        return False
    try:
        return file.is_file() and 0 < file.stat().st_size <= _LARGEST
    except OSError:
        return False


def _read(file: Path, place: Path, names: Sequence[str], account: Account) -> LabelTable | None:
    try:
        table = read_table(file, read_regular(file))
    except (UserError, OSError):  # a table of something else: it is counted with the other files
        return None
    if table.labels is None:
        return None
    rows = _rows_of(table, file, place, names)
    if not _count(rows):
        return None
    if (path := _labelled_twice(table)) is not None:
        account.note(f"{file.name} has several labels for one image ('{written(path)}'): not used as classes")
        return None
    values = [None if row is None else table.labels[row] for row in rows]
    splits = [] if table.splits is None else [None if row is None else table.splits[row] for row in rows]
    what = f"{written(str(file))}: {table.label}"
    return LabelTable(file, values, what, splits, tuple(table.notes))


def _labelled_twice(table: Table) -> str | None:
    """A path that stands in two rows with different labels, as boxes of objects do."""
    assert table.labels is not None
    seen: dict[str, Any] = {}
    for path, label in zip(table.paths, table.labels, strict=True):
        if seen.setdefault(path, label) != label:
            return path
    return None


def _rows_of(table: Table, file: Path, place: Path, names: Sequence[str]) -> list[int | None]:
    """The row of each image: by its path from the table on, else by its name, with its ending or without."""
    wanted = [os.path.normpath(path.strip().replace("\\", "/")) for path in table.paths]
    prefix = os.path.relpath(place, file.parent)
    full = [os.path.normpath(os.path.join(prefix, name)) for name in names]
    best: list[int | None] = [None] * len(names)
    for own, theirs in (
        (full, wanted),
        ([os.path.basename(name) for name in names], [os.path.basename(path) for path in wanted]),
        ([os.path.splitext(os.path.basename(name))[0] for name in names], wanted),
    ):
        rows = _first_of_each(theirs)
        if len(set(own)) < len(own):
            continue  # two images of one name
        matched = [rows.get(name) for name in own]
        if _count(matched) > _count(best):
            best = matched
    return best


def _first_of_each(paths: Sequence[str]) -> dict[str, int]:
    rows: dict[str, int] = {}
    for row, path in enumerate(paths):
        rows.setdefault(path, row)
    return rows


def _count(rows: Sequence[int | None]) -> int:
    return sum(row is not None for row in rows)
