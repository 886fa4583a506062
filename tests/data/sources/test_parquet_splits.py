"""A column of splits in Parquet files: each split has its own rows, and the others are known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from barlowctl.data.sources import open_source, other_splits
from barlowctl.errors import UserError
from tests.data.sources.test_archives import jpeg

SPLITS = ["train", "Validation", "train", "train", None, "other", "validation", "train"]


def write(path: Path, splits: list[Any], **columns: Any) -> Path:
    count = len(splits)
    images, labels = [jpeg(i) for i in range(count)], [i % 3 for i in range(count)]
    values = {"image": images, "label": labels, "split": splits} | columns
    parquet.write_table(pa.table(values), path, row_group_size=3)
    return path


@pytest.mark.parametrize("kind", [pa.string(), pa.dictionary(pa.int32(), pa.string())])
def test_rows_are_those_of_the_split(tmp_path: Path, kind: pa.DataType) -> None:
    path = write(tmp_path / "x.parquet", pa.array(SPLITS).cast(kind))
    for split, rows in (("train", [0, 2, 3, 7]), ("val", [1, 6]), ("test", [1, 6])):
        source = open_source(path, split)
        assert [source.describe(i) for i in range(len(source))] == [(f"row {row}", row % 3) for row in rows]
        assert [source[i].data for i in range(len(source))] == [jpeg(row) for row in rows]
        assert source.class_names == ["0", "1", "2"]
        assert other_splits(source, path) == (["val"] if split == "train" else ["train"])
    assert any("4 of 8" in line for line in open_source(path).scan_report.lines())
    with pytest.raises(UserError, match="has no unlabelled split") as refused:
        open_source(path, "unlabelled")
    assert refused.value.next == "--split train\n--split val"


def test_over_several_files_one_of_which_has_no_such_column(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", ["train", "test"])
    table = parquet.read_table(write(tmp_path / "b.parquet", ["train", "train"]))
    parquet.write_table(table.drop_columns(["split"]), tmp_path / "b.parquet")
    write(tmp_path / "c.parquet", ["test", "train"])
    source = open_source(tmp_path, "test")
    assert [source[i].data for i in range(len(source))] == [jpeg(1), jpeg(0)]
    assert other_splits(source, tmp_path) == ["train"]


def test_names_of_files_go_before_and_other_columns_say_nothing(tmp_path: Path) -> None:
    write(tmp_path / "train-00000.parquet", ["train", "val"])
    write(tmp_path / "val-00000.parquet", ["train", "val"])
    assert [len(open_source(tmp_path, split)) for split in ("train", "val")] == [2, 2]
    words = write(tmp_path / "words.parquet", ["a", "b", "c"])
    numbers = write(tmp_path / "numbers.parquet", [0, 1, 2])
    assert [len(open_source(path)) for path in (words, numbers)] == [3, 3]
