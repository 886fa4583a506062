"""Features with the names and labels of their images, written for other tools."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from barlowctl import shell
from barlowctl.amounts import counted
from barlowctl.data.images.unreadable import Problem
from barlowctl.data.names import require_text, written
from barlowctl.errors import UserError
from barlowctl.files import atomic_write, folder_made
from barlowctl.output_paths import check_new, why_not_written
from barlowctl.packages import required

FORMATS = (".parquet", ".npz", ".safetensors")


@dataclass(frozen=True)
class Embeddings:
    """Features `(N, F)` float32 and what they are of.

    Attributes:
        features: `(N, F)` float32, a row for each image.
        names: of the images, one line each (`data.names.written`). labels: `(N,)` int64, -1 unlabelled.
        class_names: of labels 0, 1, ...
        metadata: what made them; strings, kept in the file where the format can.
        positions: `(N,)` int64, of each row's image in its source. unreadable: the images that have no row.
        notes: what should be known of the images, e.g. that they are nearly black.
    """

    features: np.ndarray
    names: list[str]
    labels: np.ndarray
    class_names: list[str]
    metadata: Mapping[str, str] = field(default_factory=dict)
    positions: np.ndarray | None = None
    unreadable: list[Problem] = field(default_factory=list)
    notes: Sequence[str] = ()

    def __repr__(self) -> str:
        rows, width = self.features.shape
        classes = f", {len(self.class_names)} class names" if self.class_names else ""
        missing = f", {len(self.unreadable)} unreadable" if self.unreadable else ""
        notes = f", {counted(len(self.notes), 'note')}" if self.notes else ""
        return f"{type(self).__name__}({rows} x {width}{classes}{missing}{notes})"

    def __len__(self) -> int:
        return len(self.features)

    @property
    def shape(self) -> tuple[int, int]:
        """(N, F), by which scikit-learn knows a matrix."""
        rows, width = self.features.shape
        return rows, width

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.features, dtype=dtype, copy=copy)

    def with_rows_of_all(self, names: Sequence[str], labels: np.ndarray) -> Embeddings:
        """A row for every image of the source, NaN for those that cannot be read: row i is image i.

        Args:
            names, labels: of all images, in the source's order.
        """
        if self.positions is None or not self.unreadable:
            return self
        features = np.full((len(names), self.features.shape[1]), np.nan, dtype=np.float32)
        features[self.positions] = self.features
        return replace(self, features=features, names=list(names), labels=np.asarray(labels), positions=None)

    def position_of(self, row: int) -> int:
        """Where the image of `row` is in its source, from 0."""
        return row if self.positions is None else int(self.positions[row])

    def class_of(self, index: int) -> str:
        """Name of the class of row `index`, empty where unlabelled."""
        label = int(self.labels[index])
        if label < 0:
            return ""
        return self.class_names[label] if label < len(self.class_names) else str(label)


def not_finite(features: np.ndarray, names: Sequence[str]) -> tuple[str, ...]:
    """What is to be said of features `(N, F)` that are infinite or not a number, with three of the images' names."""
    rows = np.flatnonzero(~np.isfinite(features).all(axis=1)).tolist()
    if not rows:
        return ()
    named = ", ".join([names[row] for row in rows[:3]] + ["..."] * (len(rows) > 3))
    return (f"the features of {len(rows):,} of {counted(len(names), 'image')} contain NaN or infinity ({named})",)


def check_path(path: Path) -> None:
    """Refuse a file that could not be written in the end, before anything is computed."""
    if path.suffix not in FORMATS:
        raise UserError(
            f"--out is '{path}'",
            allowed=f"a name that ends in {', '.join(FORMATS)}",
            next=shell.line("--out", path.with_suffix(".npz")),
        )
    check_new(path)
    if path.suffix == ".parquet":
        _pyarrow()
    if path.suffix == ".safetensors":
        require_text(path)


def write(path: Path, embeddings: Embeddings) -> None:
    """Write `.parquet` (a row per image), `.npz` or `.safetensors`.

    Parquet columns: name, label, class, features (a list of F float32). npz arrays: names, labels, class_names,
    features. Safetensors tensors: features, labels, and names as UTF-8 bytes, a name a line; class names and `metadata`
    in its metadata. Names are the same text in all three: one line, with escapes where a file's name is no such text.

    Raises:
        UserError: another ending, a file that exists, no space, or a missing package.
    """
    check_path(path)
    try:
        with folder_made(path.parent), atomic_write(path, new=True) as temporary:
            _WRITERS[path.suffix](temporary, embeddings)
    except OSError as error:
        why = why_not_written(error, path.parent)
        raise UserError(f"'{path}' cannot be written: {why}", next="name another place with --out") from error


def _write_parquet(path: Path, embeddings: Embeddings) -> None:
    arrow, parquet = _pyarrow()
    flat = arrow.array(np.ascontiguousarray(embeddings.features, dtype=np.float32).reshape(-1))
    columns = {
        "name": arrow.array(embeddings.names, arrow.string()),
        "label": arrow.array(embeddings.labels, arrow.int64()),
        "class": arrow.array(
            [embeddings.class_of(index) or None for index in range(len(embeddings.names))], arrow.string()
        ),
        "features": arrow.FixedSizeListArray.from_arrays(flat, embeddings.features.shape[1]),
    }
    table = arrow.table(columns).replace_schema_metadata({"barlowctl": json.dumps(dict(embeddings.metadata))})
    parquet.write_table(table, path, compression="zstd")


def _write_npz(path: Path, embeddings: Embeddings) -> None:
    with open(path, "wb") as stream:
        np.savez(
            stream,
            features=embeddings.features.astype(np.float32),
            labels=embeddings.labels,
            names=np.array(embeddings.names, dtype=np.str_),
            class_names=np.array(embeddings.class_names, dtype=np.str_),
            facts=np.array(json.dumps(dict(embeddings.metadata))),
        )


def _write_safetensors(path: Path, embeddings: Embeddings) -> None:
    names = "\n".join(embeddings.names).encode()
    tensors: dict[str, np.ndarray] = {
        "features": np.ascontiguousarray(embeddings.features, dtype=np.float32),
        "labels": embeddings.labels.astype(np.int64),
        "names": np.frombuffer(names, dtype=np.uint8).copy(),
    }
    texts = {key: written(str(value)) for key, value in embeddings.metadata.items()}
    metadata = {"class_names": json.dumps(embeddings.class_names), **texts}
    save_file(tensors, path, metadata=metadata)


_WRITERS: dict[str, Callable[[Path, Embeddings], None]] = {
    ".parquet": _write_parquet,
    ".npz": _write_npz,
    ".safetensors": _write_safetensors,
}


def _pyarrow() -> tuple[Any, Any]:
    need = "parquet needs the package pyarrow"
    (parquet,) = required(need, "pyarrow.parquet", extra="embed", allowed="or .npz, .safetensors")
    import pyarrow

    return pyarrow, parquet
