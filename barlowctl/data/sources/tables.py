"""Tables and columns that a program has in hand, of pandas, polars, pyarrow and NumPy: their rows."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np

from barlowctl.data.labels.columns import ends_as_image
from barlowctl.data.labels.text_table import FILE_NAMES, Table, table_of


class Rows(Sequence[Any]):
    """The rows of a table: `(path, label)` each, or dictionaries where the images are in the table themselves.

    Attributes:
        title: what to call them. notes: what the columns were taken for.
    """

    def __init__(self, rows: Sequence[Any], title: str, notes: Sequence[str] = ()) -> None:
        self._rows, self.title, self.notes = rows, title, notes

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Any]: ...
    def __getitem__(self, index: int | slice) -> Any:
        return self._rows[index]


def plain(images: Any) -> Any:
    """A table as its `Rows`, by split where a column says it; a column of paths as a list; anything else as it is.

    Raises:
        UserError: as `text_table` of a file with this table.
    """
    if (records := records_of(images)) is not None:
        return _by_split(records, type(images).__name__)
    return column_of(images)


def records_of(table: Any) -> list[dict[str, Any]] | None:
    """The rows of a table of pandas, polars or pyarrow, by name of column; None: it is none."""
    if isinstance(table, Mapping) or not (hasattr(table, "columns") or hasattr(table, "column_names")):
        return None
    for name, arguments in (("to_dicts", ()), ("to_pylist", ()), ("to_dict", ("records",))):
        if name == "to_dict" and not hasattr(table, "iloc"):  # pandas' alone: Hugging Face's gives columns
            continue
        if (convert := getattr(table, name, None)) is not None:
            return [{str(key): _cell(value) for key, value in row.items()} for row in convert(*arguments)]
    return None


def column_of(values: Any) -> Any:
    """An array or a column of texts (paths, labels) as a list; anything else as it is."""
    if isinstance(values, np.ndarray):
        texts = values.ndim == 1 and (values.dtype.kind in "UT" or values.dtype == object)
        return values.tolist() if texts else values
    for name in ("to_pylist", "to_list"):  # pyarrow's, pandas' and polars'
        if hasattr(values, "__len__") and (convert := getattr(values, name, None)) is not None:
            return convert() if records_of(values) is None and not hasattr(values, "features") else values
    return values


def _by_split(records: list[dict[str, Any]], title: str) -> Any:
    names = list(dict.fromkeys(key for record in records for key in record))
    table = _of_paths(records, names, title)
    if table is None:
        return Rows(records, title)
    rows = list(zip(table.paths, table.labels or [None] * len(records), strict=True))
    if table.splits is None:
        return Rows(rows, title, table.notes)
    splits = dict.fromkeys(split for split in table.splits if split)
    return {
        split: Rows([row for row, own in zip(rows, table.splits, strict=True) if own == split], title, table.notes)
        for split in splits
    }


def _of_paths(records: list[dict[str, Any]], names: Sequence[str], title: str) -> Table | None:
    """The table as a file with it is read, where a column holds paths of images."""
    known = {name.lower() for name in names} & set(FILE_NAMES)
    columns = [name for name in names if records and all(_is_path(record.get(name)) for record in records)]
    file = next((name for name in columns if name.lower() in known), columns[0] if len(columns) == 1 else None)
    if file is None:
        return None
    texts = [{**record, file: os.fspath(record[file])} for record in records]
    return table_of(Path(title), list(range(1, len(records) + 1)), texts, names, file=file)


def _is_path(value: Any) -> bool:
    return isinstance(value, os.PathLike) or (isinstance(value, str) and ends_as_image(value))


def _cell(value: Any) -> Any:
    """A value as a table in a file has it: what pandas has for nothing is None."""
    return None if isinstance(value, float) and value != value else value
