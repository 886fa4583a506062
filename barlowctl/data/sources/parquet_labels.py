"""Labels in a column of Parquet files: which column it is, its values, and the names of its classes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from barlowctl.data.labels.numbering import Codebook, Labels, label_name, settle
from barlowctl.data.names import written
from barlowctl.data.sources.parquet_columns import columns_of_lists, image_columns, path_of
from barlowctl.errors import UserError, did_you_mean, instead


class ParquetLabels:
    """Collects a column of labels, file by file: eight bytes a row, and the distinct labels.

    Args:
        schema: an Arrow schema, of the first file.
        column: the column that holds labels; None: the one that Hugging Face's note calls classes, or whose name says
            so; "none": none.
    """

    def __init__(self, schema: Any, column: str | None = None) -> None:
        self.notes: list[str] = []
        self._requested = column
        names = [str(name) for name in schema.names]
        if column not in (None, "none"):
            _check_column(schema, column, names)
        self.column = None if column == "none" else column or self._choose(schema, names)
        self._book = Codebook()
        self._codes: list[np.ndarray] = []

    def add(self, opened: Any) -> None:
        """Take in the labels of an opened file (a `pyarrow.parquet.ParquetFile`)."""
        rows = opened.metadata.num_rows
        path = path_of(opened.schema_arrow, self.column) if self.column is not None else []
        if self.column is None or path[0] not in opened.schema_arrow.names:
            self._codes.append(np.full(rows, self._book.code(None, rows), dtype=np.int64))
            return
        for chunk in opened.read(columns=[self.column]).column(0).chunks:
            self._codes.append(self._code(_field_of(chunk, path[1:])))

    def _code(self, chunk: Any) -> np.ndarray:
        """Codes `(n,)` of an Arrow array."""
        import pyarrow as pa

        if pa.types.is_nested(chunk.type):
            return np.array([self._book.code(value.as_py()) for value in chunk], dtype=np.int64)
        encoded = chunk if pa.types.is_dictionary(chunk.type) else chunk.dictionary_encode()
        values = encoded.dictionary.to_pylist()
        indices = np.asarray(encoded.indices.fill_null(len(values)).to_numpy(zero_copy_only=False), dtype=np.int64)
        counts = np.bincount(indices, minlength=len(values) + 1)
        codes = [self._book.code(value, int(n)) if n else 0 for value, n in zip([*values, None], counts, strict=True)]
        return np.array(codes, dtype=np.int64)[indices]

    def settle(self, where: str, names: Sequence[str] = (), training_classes: Sequence[str] | None = None) -> Labels:
        """Labels of all rows; names: of the classes, where the file has them. See `numbering.settle`."""
        codes = np.concatenate(self._codes) if self._codes else np.empty(0, dtype=np.int64)
        settled = settle(
            self._book,
            f"{where}: column '{written(self.column or '')}'",
            names=names,
            training_classes=training_classes,
        )
        return Labels(settled.numbers[codes] if len(codes) else codes, settled.class_names, settled.notes)

    def _choose(self, schema: Any, names: list[str]) -> str | None:
        """The column of labels, by Hugging Face's note or by its name."""
        noted = [name for name in names if class_names(schema, name)]
        chosen = label_name(noted) or (noted[0] if noted else label_name(names))
        if others := [name for name in names if name != chosen and (name in noted or label_name([name]))]:
            self._note(f"labels are those of column '{written(chosen or '')}'; others could be", others)
        return chosen

    def note_unused(self, schema: Any) -> None:
        """Where no column was found to hold labels, say which others than those of images there are."""
        images = {path_of(schema, name)[0] for name in (*image_columns(schema), *columns_of_lists(schema))}
        names = [str(name) for name in schema.names if name not in images]
        if self._requested is None and self.column is None and names:
            self._note("no column is called label or class; not used", names)

    def _note(self, what: str, columns: Sequence[str]) -> None:
        listed = ", ".join(f"'{written(name)}'" for name in columns[:8]) + (", ..." if len(columns) > 8 else "")
        self.notes.append(f"{what}: {listed}; --label-column NAME takes one")


def _check_column(schema: Any, column: str | None, names: Sequence[str]) -> None:
    """Refuse a column that is not there."""
    try:
        top, *fields = path_of(schema, str(column))
        kind = schema.field(top).type
        for name in fields:
            kind = kind.field(name).type
    except (KeyError, ValueError, AttributeError, StopIteration):
        raise UserError(
            f"--label-column is '{column}'{did_you_mean(str(column), names)}, which is not there",
            allowed=f"{', '.join(written(name) for name in names)}; none: without labels",
            next=instead("--label-column", str(column), [*names, "none"]),
        ) from None


def _field_of(chunk: Any, fields: Sequence[str]) -> Any:
    """What lies inside an Arrow array of structs; null where a struct is."""
    import pyarrow.compute as pc

    return pc.struct_field(chunk, list(fields)) if fields else chunk


def class_names(schema: Any, column: str) -> list[str]:
    """From {"info": {"features": {COLUMN: {"names": [...]}}}}, which Hugging Face's datasets writes."""
    try:
        note = json.loads((schema.metadata or {})[b"huggingface"])
        return [written(str(name)) for name in note["info"]["features"][column]["names"]]
    except (KeyError, TypeError, ValueError):
        return []
