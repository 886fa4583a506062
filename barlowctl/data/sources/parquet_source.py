"""Images in Parquet files, as Hugging Face data sets are stored: a column of encoded images, a column of labels."""

from __future__ import annotations

import contextlib
import os
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from barlowctl import shell
from barlowctl.data.labels.numbering import Labels
from barlowctl.data.names import packed_as, written
from barlowctl.data.sources.parquet_columns import (
    choose_image_column,
    columns_of_lists,
    image_columns,
    path_of,
    read_values,
    text_columns,
    value_at,
)
from barlowctl.data.sources.parquet_labels import ParquetLabels, class_names
from barlowctl.data.sources.parquet_splits import ParquetSplits
from barlowctl.data.sources.picture import Picture, Source
from barlowctl.data.sources.read_options import NO_OPTIONS, ReadOptions
from barlowctl.data.sources.shard_files import classes_of_files, distinct, labels_of_files
from barlowctl.data.tree.regular import read_regular
from barlowctl.data.tree.splits import of_split, split_in, training_files
from barlowctl.errors import UserError
from barlowctl.packages import required

GROUPS_CACHED = 2
"""Row groups in memory: images are read in order, by threads that are a few images apart."""

_LOOKED_AT = 16  # rows, to see whether a column has images


def open_parquet(
    path: Path, split: str, options: ReadOptions = NO_OPTIONS, training: Sequence[Path] | None = None
) -> ParquetImages:
    """A split of the Parquet files in a folder (`parquet_files`); training: those of the training split elsewhere."""
    files = parquet_files(path)
    training = training_files(files, split) if training is None else of_split(training, "train")
    return ParquetImages(of_split(files, split), split, training, options)


def parquet_files(path: Path) -> list[Path]:
    """Visible Parquet files in a folder or else in its data/ folder, sorted."""
    for folder in (path, path / "data"):
        paths = sorted(folder.glob("*.parquet")) if folder.is_dir() else []
        files = [file for file in paths if file.is_file() and not file.name.startswith(".")]
        if files:
            return files
    return []


class ParquetImages(Source):
    """Rows of Parquet files; the images of `GROUPS_CACHED` row groups are in memory at a time.

    The image column is one of bytes, or of structs with a field `bytes` (`parquet_columns`); labels are in a column
    that is called label, class or the like, or that Hugging Face's note in the file gives names of classes
    (`parquet_labels`). Where a column says of which split each row is (`parquet_splits`), those of the split are read.

    Args:
        options: its image column and label column.
        training: the files of the training split: labels that are words count among theirs.

    Raises:
        UserError: pyarrow is missing, no such column, no row of the split, or a damaged file.
    """

    choices = ("image_column", "label_column")

    def __init__(
        self, files: list[Path], split: str, training: Sequence[Path] = (), options: ReadOptions = NO_OPTIONS
    ) -> None:
        self.kind, self.split = "images in Parquet files", split
        self.path = files[0] if len(files) == 1 else files[0].parent
        self._parquet, self._failure = _pyarrow()
        self.files = distinct(files, self.scan_report)
        self._column = self._choose_column(options.image_column)
        self._shard_bytes = [file.stat().st_size for file in self.files]
        groups: list[tuple[int, int, int]] = []  # file, group, rows
        labels: ParquetLabels | None = None
        splits: ParquetSplits | None = None
        names: list[str] = []
        for number, file in enumerate(self.files):
            with self._look_into(file) as opened:
                schema = opened.schema_arrow
                if self._column not in (text_columns(schema) if self._of_paths else image_columns(schema)):
                    self.scan_report.skip(f"files without the column of images '{self._column}'", file.name)
                    continue
                self._inside = path_of(schema, self._column)[1:]
                for group in range(opened.num_row_groups):
                    groups.append((number, group, opened.metadata.row_group(group).num_rows))
                if labels is None:
                    labels = ParquetLabels(schema, options.label_column)
                    labels.note_unused(schema)
                labels.add(opened)
                splits = splits or ParquetSplits(schema, labels.column)
                splits.add(opened)
                names = names or class_names(schema, labels.column or "")
        rows = np.array([count for _, _, count in groups], dtype=np.int64)
        self._groups, self._ends = groups, np.cumsum(rows)
        count = int(self._ends[-1]) if len(rows) else 0
        if count == 0:
            raise UserError(f"{self.path} has no rows")
        assert labels is not None
        assert splits is not None
        self._rows = np.arange(count)
        if not any(split_in(file.name) for file in files):  # which say it of all their rows
            chosen, self.splits = splits.rows_of(split, self.path)
            if chosen is not None:
                self._rows = chosen
                self.scan_report.note(
                    f"column '{splits.column}' says which rows are of a split: {len(chosen)} of {count}"
                )
        settled = labels.settle(str(self.path), names, None if names else self._classes_of(training, labels.column))
        if not settled.class_names and options.label_column is None:
            settled = self._labels_of_files(settled, training)
        self._labels, self.class_names = settled.numbers, settled.class_names
        for note in (*labels.notes, *settled.notes):
            self.scan_report.note(note)
        self._cached: OrderedDict[int, Any] = OrderedDict()
        self._opened: tuple[int, Any] | None = None  # one file at a time: there may be thousands of shards
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._rows)

    def describe(self, index: int) -> tuple[str, int]:
        row = int(self._rows[index])
        return f"row {row}", int(self._labels[row])

    def __getitem__(self, index: int) -> Picture:
        row = int(self._rows[index])
        group = int(np.searchsorted(self._ends, row, side="right"))
        begin = int(self._ends[group]) - self._groups[group][2]
        try:
            value = value_at(self._read(group)[row - begin].as_py(), self._inside)
        except self._failure as error:
            raise OSError(f"damaged in the Parquet file: {error}") from error
        data = value.get("bytes") if isinstance(value, dict) else value
        path = value if isinstance(value, str) else value.get("path") if isinstance(value, dict) else None
        if path and (data is None or isinstance(data, str)):
            data = read_regular(self.files[self._groups[group][0]].parent / os.path.expanduser(path))
        if data is None:
            raise OSError("no image in this row")
        return Picture(*self.describe(index), data)

    def column(self, name: str) -> list[object]:
        values: list[object] = []
        for number in sorted({number for number, _, _ in self._groups}):
            with self._look_into(self.files[number]) as opened:
                values += read_values(opened, name)
        return [values[row] for row in self._rows.tolist()]

    def _choose_column(self, requested: str | None) -> str:
        """The column of images, of the first file that has one; the others are reported."""
        for file in self.files:
            with self._look_into(file) as opened:
                schema = opened.schema_arrow
                if file != self.files[-1] and not image_columns(schema):
                    continue
                column, others = choose_image_column(schema, requested, partial(_first, opened), str(file))
                self._require_paths(opened, column, file)
                for name in others:
                    self.scan_report.skip("columns of images beside the one that is read", name)
                for name in columns_of_lists(schema):
                    self.scan_report.skip("columns with a list of images a row", name)
                if others:
                    pack = shell.line(
                        "barlowctl", "data", "pack", self.path, packed_as(self.path), "--image-column", others[0]
                    )
                    self.scan_report.note(
                        f"images are those of column '{column}', and not of {', '.join(others)}; to read these: {pack}"
                    )
                return column
        raise AssertionError("no files")

    def _require_paths(self, opened: Any, column: str, file: Path) -> None:
        """Where a column has paths, one of the first of them leads to a file; that files are read is said.

        Raises:
            UserError: none does.
        """
        self._of_paths = column in text_columns(opened.schema_arrow)
        if not self._of_paths:
            return
        self.kind = "images at paths in Parquet files"
        batch = next(opened.iter_batches(batch_size=_LOOKED_AT, columns=[column]), None)
        paths = [path for path in (batch.column(0).to_pylist() if batch is not None else ()) if path]
        if not any((file.parent / os.path.expanduser(path)).is_file() for path in paths):
            example = f", e.g. '{written(paths[0])}'" if paths else ""
            raise UserError(
                f"{file}: column '{column}' has no path of a file that is there{example}",
                allowed="paths from the folder of the Parquet file on, or from the root",
                next="move the Parquet file to where its paths begin",
            )

    @contextlib.contextmanager
    def _look_into(self, file: Path) -> Iterator[Any]:
        """A file, opened; what goes wrong with it is said with its name."""
        failures: tuple[type[Exception], ...] = (OSError, *self._failure)
        try:
            with self._parquet.ParquetFile(file) as opened:
                yield opened
        except failures as error:
            if isinstance(error, OSError) and error.errno:  # of the system, not of what is in the file
                raise UserError(f"{file} cannot be read: {os.strerror(error.errno)}") from error
            raise UserError(f"{file} is not a readable Parquet file: {error}", next="download it again") from error

    def _classes_of(self, training: Sequence[Path], column: str | None) -> list[str] | None:
        """The class names of the training files, None where they say none."""
        labels: ParquetLabels | None = None
        for file in training if column is not None else ():
            with self._look_into(file) as opened:
                labels = labels or ParquetLabels(opened.schema_arrow, column)
                labels.add(opened)
        return None if labels is None else labels.settle(str(self.path)).class_names or None

    def _labels_of_files(self, settled: Labels, training: Sequence[Path]) -> Labels:
        """Labels by the names of the files, where these are classes."""
        filled = sorted({number for number, _, _ in self._groups})
        training_classes = classes_of_files(training)[0] or None
        labels = labels_of_files([self.files[number] for number in filled], training_classes)
        if not labels.class_names:
            return settled
        numbers = [labels.numbers[filled.index(number)] for number, _, _ in self._groups]
        counts = [count for _, _, count in self._groups]
        return replace(labels, numbers=np.repeat(numbers, counts), notes=(*settled.notes, *labels.notes))

    def extent(self, index: int) -> tuple[int, int]:
        """Not of one row: the shard's size stands for every row in it."""
        file = self._groups[int(np.searchsorted(self._ends, self._rows[index], side="right"))][0]
        return -1, self._shard_bytes[file]

    def _read(self, group: int) -> Any:
        """The image column of a row group."""
        with self._lock:
            if group not in self._cached:
                while len(self._cached) >= GROUPS_CACHED:
                    self._cached.popitem(last=False)
                file, number, _ = self._groups[group]
                self._cached[group] = self._open(file).read_row_group(number, columns=[self._column]).column(0)
            self._cached.move_to_end(group)
            return self._cached[group]

    def _open(self, file: int) -> Any:
        """A shard, kept open until another one is asked for."""
        if self._opened is None or self._opened[0] != file:
            if self._opened is not None:
                self._opened[1].close()
                self._opened = None
            self._opened = file, self._parquet.ParquetFile(self.files[file])
        return self._opened[1]


def _pyarrow() -> tuple[Any, tuple[type[Exception], ...]]:
    """Its module for Parquet files, and what it raises; of damaged text that is Python's error."""
    (parquet,) = required("Parquet files need pyarrow", "pyarrow.parquet")
    import pyarrow

    return parquet, (pyarrow.ArrowException, UnicodeDecodeError)


def _first(opened: Any, column: str) -> bytes | None:
    """The first image of a column, None where the first rows have none."""
    fields = path_of(opened.schema_arrow, column)
    for batch in opened.iter_batches(batch_size=_LOOKED_AT, columns=[column]):
        for row in batch.column(0):
            value = value_at(row.as_py(), fields[1:])
            data = value.get("bytes") if isinstance(value, dict) else value
            if data:
                return bytes(data)
        break
    return None
