"""A table beside images with their labels: metadata.csv or .jsonl (as Hugging Face has it), labels.csv, train.csv."""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from barlowctl.amounts import counted
from barlowctl.data.labels.columns import ends_as_image
from barlowctl.data.labels.numbering import Labels, number_labels
from barlowctl.data.labels.text_table import Table, read_table
from barlowctl.data.names import written
from barlowctl.data.tree.regular import read_regular
from barlowctl.data.tree.scan import system_or_hidden
from barlowctl.data.tree.scan_report import ScanReport
from barlowctl.data.tree.splits import SAME_SPLIT, choices, split_in
from barlowctl.errors import UserError, did_you_mean, instead

_ENDINGS = (".csv", ".tsv", ".jsonl", ".json", ".txt")
_STEMS = ("labels", "label", "metadata", "train", "annotations", "classes", "targets")
"""What tables of labels are called, without their endings."""
_MANY = 20
"""Files of one ending in a folder: more lie beside images, one each."""
_LARGEST = 1 << 28
"""Bytes of a table that is looked into."""


@dataclass(frozen=True)
class LabelTable:
    """Labels of images from a table.

    file: the table.    values: one an image, None where the table has none.    what: the labels in words.
    splits: split that the table says of each image, None for none; empty where it has no column of splits.
    absent: rows of images that are not there, in words; empty where there are none.
    """

    file: Path
    values: list[Any]
    what: str
    splits: list[str | None] = field(default_factory=list)
    notes: tuple[str, ...] = ()
    absent: str = ""


class Files(Protocol):
    """Where tables lie: on a disk, or in an archive."""

    def sizes(self, folder: Path) -> dict[Path, int]:
        """Files directly in a folder that may be tables, and their bytes."""

    def read(self, file: Path) -> bytes:
        """All of a file. Raises OSError."""


class FilesOnDisk:
    """`Files` in folders."""

    def sizes(self, folder: Path) -> dict[Path, int]:
        """See `Files`."""
        sizes = {}
        for file in folder.iterdir():
            with contextlib.suppress(OSError):
                if may_be_table(file.name) and file.is_file():
                    sizes[file] = file.stat().st_size
        return sizes

    def read(self, file: Path) -> bytes:
        """See `Files`."""
        return read_regular(file)


class FilesInArchive(FilesOnDisk):
    """`Files` in an archive, as if it were a folder, or in and beside the archives in a folder.

    Args:
        path: the archive or the folder. sizes: bytes of each member that may be a table, by name.
        read: all of a member; raises OSError.
    """

    def __init__(self, path: Path, sizes: Mapping[str, int], read: Callable[[str], bytes]) -> None:
        self._names = {path / name: name for name in sizes}
        self._sizes, self._read = sizes, read

    def sizes(self, folder: Path) -> dict[Path, int]:
        """See `Files`."""
        beside = super().sizes(folder) if folder.is_dir() else {}
        return beside | {file: self._sizes[name] for file, name in self._names.items() if file.parent == folder}

    def read(self, file: Path) -> bytes:
        """See `Files`."""
        return self._read(self._names[file]) if file in self._names else super().read(file)


def may_be_table(name: str) -> bool:
    """Whether a file's name, with its folders or without, is that of a table."""
    base = os.path.basename(name)
    return os.path.splitext(base)[1].lower() in _ENDINGS and not system_or_hidden(base, folder=False)


def keep_table(tables: dict[str, Any], name: str, where: object) -> None:
    """Note where a member that may be a table lies, unless there are `_MANY` of its ending in its folder and more."""
    alike = os.path.dirname(name), os.path.splitext(name)[1].lower()
    if sum((os.path.dirname(other), os.path.splitext(other)[1].lower()) == alike for other in tables) <= _MANY:
        tables[name] = where


def find_label_table(
    top: Path, place: Path, names: Sequence[str], split: str, report: ScanReport, files: Files
) -> LabelTable | None:
    """The table that labels most of the images; None where none labels any.

    Args:
        top: tables are looked for in this folder and down to `place`, the folder that `names` begin in.
        split: a table that is called after another split and lies above the split's own folder is not taken.
        report: gets a note of tables whose labels cannot be used.
    """
    best, most = None, (0, False)
    for folder in (place, *(above for above in place.parents if above == top or top in above.parents)):
        for file in _tables(files.sizes(folder)):
            own = folder == place != top  # the split's own folder
            if not own and split_in(file.stem) not in (None, split):
                continue
            table = _read(file, files, place, names, report)
            if table is None:
                continue
            count = sum(value is not None for value in table.values)
            if (count, bool(table.splits)) > most:
                best, most = table, (count, bool(table.splits))
    if best is not None and best.absent:
        report.note(best.absent)
    return best


def column_of(file: Path, place: Path, names: Sequence[str], column: str) -> list[Any]:
    """What stands in a column of a table, for each image; None where it has no row.

    Args:
        place: the folder that `names` begin in.

    Raises:
        UserError: the table cannot be read, or has no such column.
    """
    table = read_table(file, read_regular(file))
    records = records_with(column, table, file)
    return [None if row is None else records[row].get(column) for row in _rows_of(table, file, place, names)]


def records_with(column: str, table: Table, file: Path) -> Sequence[dict[str, Any]]:
    """The rows of a table that has a column of that name.

    Raises:
        UserError: it has none.
    """
    columns = list(dict.fromkeys(str(name) for record in table.records for name in record))
    if column not in columns:
        raise no_such_column(column, columns, str(file))
    return table.records


def no_such_column(column: str, columns: Sequence[str], where: str) -> UserError:
    """Of a column of groups that is not there."""
    return UserError(
        f"--groups-column is '{column}'{did_you_mean(column, columns)}; {where} has no such column",
        allowed=", ".join(map(written, columns)) or "a column of Parquet files, or of a table beside the images",
        next=instead("--groups-column", column, columns) if columns else "without --groups-column",
    )


def labels_in(table: LabelTable, split: str, report: ScanReport) -> tuple[Sequence[int], Labels]:
    """(rows, labels): the images that the table says are of the split, all where it says nothing, and their labels.

    Raises:
        UserError: it has a column of splits without this one, or words that are no classes of the training split.
    """
    report.take_back(f"{table.file.suffix.lower()} files", 1, table.file.name)
    if any(value is not None for value in table.values):
        report.note(f"labels are those of {table.file.name}")
    values, training_classes = table.values, None
    rows: Sequence[int] = range(len(values))
    if table.splits:
        listed = split if split in table.splits else SAME_SPLIT.get(split)
        rows = [row for row, row_split in enumerate(table.splits) if row_split is not None and row_split == listed]
        if not rows:
            raise UserError(f"{table.file} has no {split} split", next=choices(table.splits))
        if split != "train":
            training = [value for value, row_split in zip(values, table.splits, strict=True) if row_split == "train"]
            training_classes = number_labels(training, table.what).class_names or None
        report.note(f"{table.file.name} says which images are of the {split} split: {len(rows)} of {len(values)}")
    labels = number_labels([values[row] for row in rows], table.what, training_classes=training_classes)
    return rows, replace(labels, notes=(*table.notes, *labels.notes))


def _tables(sizes: Mapping[Path, int]) -> list[Path]:
    """What may be a table in a folder, sorted: of an ending with few files."""
    tables = sorted(file for file, size in sizes.items() if 0 < size <= _LARGEST or _is_empty_table(file, size))
    counts = Counter(file.suffix.lower() for file in tables)
    return [file for file in tables if counts[file.suffix.lower()] <= _MANY]


def _is_empty_table(file: Path, size: int) -> bool:
    """Whether a file without a byte is called as tables of labels are: reading it says that it is empty."""
    return size == 0 and file.stem.lower() in _STEMS


def _without_folder(message: str, file: Path) -> str:
    """What is wrong with a file that was named already."""
    text = message.removeprefix(str(file))
    return text.removeprefix(", ").removeprefix(" ").removeprefix(": ")


def _read(file: Path, files: Files, place: Path, names: Sequence[str], report: ScanReport) -> LabelTable | None:
    called_so = file.parent == place and file.stem.lower() in _STEMS
    try:
        table = read_table(file, files.read(file))
    except OSError:  # it is counted with the other files
        return None
    except UserError as error:  # a table of something else, except one that is called as tables of labels are
        if called_so:
            report.note(f"{file.name} has no labels that can be read: {_without_folder(error.message, file)}")
        return None
    rows = _rows_of(table, file, place, names)
    if not _count(rows):
        of_images = table.labels is not None and any(map(ends_as_image, table.paths)) and file.parent == place
        if table.paths and (called_so or of_images):
            report.note(f"{file.name} labels none of the images here ('{written(table.paths[0])}'): not used")
        return None
    if table.labels is None:
        for note in table.notes:
            report.note(note)
        if table.splits is None:
            if called_so and not table.notes:
                report.note(f"{file.name} has no column of labels beside that of images: not used")
            return None
        table.labels, table.notes = [None] * len(table.paths), []
    if (path := _labelled_twice(table)) is not None:
        report.note(f"{file.name} has several labels for one image ('{written(path)}'): not used as classes")
        return None
    values = [None if row is None else table.labels[row] for row in rows]
    splits = [] if table.splits is None else [None if row is None else table.splits[row] for row in rows]
    what = f"{written(str(file))}: {table.label}"
    absent = "" if splits or file.parent != place else _absent(file, table, rows)  # or it has rows of other splits
    return LabelTable(file, values, what, splits, tuple(table.notes), absent)


def _absent(file: Path, table: Table, rows: Sequence[int | None]) -> str:
    """How many paths of a table are no image's, and three of them; empty: all are an image's."""
    there = {table.paths[row] for row in rows if row is not None}
    absent = list(dict.fromkeys(written(path) for path in table.paths if path not in there))
    examples = ", ".join(f"'{path}'" for path in absent[:3]) + (", ..." if len(absent) > 3 else "")
    return f"{file.name} has labels of {counted(len(absent), 'image')} not here: {examples}" if absent else ""


def _labelled_twice(table: Table) -> str | None:
    """A path that stands in two rows with different labels, as boxes of objects do."""
    assert table.labels is not None
    seen: dict[str, Any] = {}
    for path, label in zip(table.paths, table.labels, strict=True):
        if seen.setdefault(path, label) != label:
            return path
    return None


def _rows_of(table: Table, file: Path, place: Path, names: Sequence[str]) -> list[int | None]:
    """The row of each image: by its path from the table on, else by its name: with its ending, without, in any case."""
    paths = [os.path.normpath(path.strip().replace("\\", "/")) for path in table.paths]
    prefix = os.path.relpath(place, file.parent)
    full = [os.path.normpath(os.path.join(prefix, name)) for name in names]
    best: list[int | None] = [None] * len(names)
    for own, listed in (
        (full, paths),
        ([os.path.basename(name) for name in names], [os.path.basename(path) for path in paths]),
        ([os.path.splitext(os.path.basename(name))[0] for name in names], paths),
        ([os.path.basename(name).lower() for name in names], [os.path.basename(path).lower() for path in paths]),
    ):
        rows = _first_of_each(listed)
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
