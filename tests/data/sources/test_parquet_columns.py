"""Which column of a Parquet file is taken for the images."""

from __future__ import annotations

import pyarrow as pa
import pytest

from barlowctl.data.sources import parquet_columns
from barlowctl.errors import UserError

PNG = b"\x89PNG\r\n\x1a\n" + bytes(40)
IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def choose(columns: dict[str, pa.DataType], column: str | None = None, content: dict[str, bytes | None] | None = None):
    schema = pa.schema(list(columns.items()))
    first = (lambda name: PNG) if content is None else content.get
    return parquet_columns.choose_image_column(schema, column, first, "x.parquet")


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"label": pa.int64(), "image": IMAGE}, ("image", [])),
        ({"mask": IMAGE, "image": IMAGE}, ("image", ["mask"])),
        ({"right": IMAGE, "left": IMAGE}, ("right", ["left"])),
        ({"annotation": IMAGE, "pixels": pa.binary()}, ("pixels", ["annotation"])),
        ({"depth_map": IMAGE, "rgb_image": IMAGE}, ("rgb_image", ["depth_map"])),
        ({"sample": pa.struct([("id", pa.int64()), ("image", IMAGE)])}, ("sample.image", [])),
        ({"png": pa.large_binary()}, ("png", [])),
    ],
)
def test_the_column_of_images(columns, expected):
    assert choose(columns) == expected


def test_bytes_that_are_no_images_are_not_taken_for_some():
    columns = {"hash": pa.binary(), "photo": pa.binary()}
    assert choose(columns, content={"hash": b"\1\2\3", "photo": PNG}) == ("photo", [])
    assert choose(columns, content={"hash": PNG, "photo": None}) == ("hash", [])


def test_a_column_that_was_asked_for():
    columns = {"left": IMAGE, "right": IMAGE}
    assert choose(columns, "right") == ("right", ["left"])
    with pytest.raises(UserError, match="did you mean 'right'") as caught:
        choose(columns, "rigth")
    assert caught.value.allowed == "left, right"
    with pytest.raises(UserError, match=r"no column of images; it has a, b"):
        choose({"a": pa.int64(), "b": pa.string()})


def test_paths_into_structs_and_names_with_dots():
    schema = pa.schema([("a", pa.struct([("b", IMAGE)])), ("seg.png", pa.binary()), ("views", pa.list_(IMAGE))])
    assert parquet_columns.image_columns(schema) == ["a.b", "seg.png"]
    assert parquet_columns.columns_of_lists(schema) == ["views"]
    assert parquet_columns.path_of(schema, "a.b") == ["a", "b"]
    assert parquet_columns.path_of(schema, "seg.png") == ["seg.png"]
    assert parquet_columns.value_at({"b": {"bytes": b"x"}}, ["b"]) == {"bytes": b"x"}
    assert parquet_columns.value_at(None, ["b"]) is None
