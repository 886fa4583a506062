"""A column of Parquet files that says of which split each row is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from barlowctl.data.labels.text_table import SPLIT_NAMES
from barlowctl.data.tree.splits import SAME_SPLIT, SPLITS, choices, split_in
from barlowctl.errors import UserError

NONE = -1


class ParquetSplits:
    """Collects a column of splits, file by file: a byte a row.

    Args:
        schema: an Arrow schema, of the first file.
        label: the column of labels, which is no column of splits.
    """

    def __init__(self, schema: Any, label: str | None) -> None:
        import pyarrow as pa

        def is_text(kind: Any) -> bool:
            kind = kind.value_type if pa.types.is_dictionary(kind) else kind
            return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))

        names = {str(name).lower(): str(name) for name in reversed(schema.names)}
        called = [names[name] for name in SPLIT_NAMES if name in names and names[name] != label]
        self.column = next((name for name in called if is_text(schema.field(name).type)), None)
        self._codes: list[np.ndarray] = []

    def add(self, opened: Any) -> None:
        """Take in the splits of an opened file (a `pyarrow.parquet.ParquetFile`)."""
        if self.column is None or self.column not in opened.schema_arrow.names:
            self._codes.append(np.full(opened.metadata.num_rows, NONE, dtype=np.int8))
            return
        for chunk in opened.read(columns=[self.column]).column(0).chunks:
            encoded = chunk if hasattr(chunk, "dictionary") else chunk.dictionary_encode()
            of_values = [_code(value) for value in encoded.dictionary.to_pylist()]
            indices = encoded.indices.fill_null(len(of_values)).to_numpy(zero_copy_only=False)
            self._codes.append(np.array([*of_values, NONE], dtype=np.int8)[indices])

    def rows_of(self, split: str, where: Path) -> tuple[np.ndarray | None, frozenset[str]]:
        """The positions of a split's rows, and all splits that there are; None where no column says any.

        Raises:
            UserError: rows are of other splits only.
        """
        codes = np.concatenate(self._codes) if self._codes else np.empty(0, dtype=np.int8)
        there = frozenset(SPLITS[code] for code in np.unique(codes) if code != NONE)
        if not there:
            return None, there
        for name in (split, SAME_SPLIT.get(split)):
            if name in there:
                return np.flatnonzero(codes == SPLITS.index(name)), there
        have = [name for name in SPLITS if name in there]
        raise UserError(
            f"{where} has no {split} split", allowed=f"column '{self.column}' has {', '.join(have)}", next=choices(have)
        )


def _code(value: str | None) -> int:
    split = split_in(value or "")
    return NONE if split is None else SPLITS.index(split)
