"""Which column of a Parquet file is taken for the images."""

from __future__ import annotations

import io
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from barlowctl.cli.app import run as barlowctl
from barlowctl.data.beton.reader import Beton
from barlowctl.data.sources import open_source, parquet_columns
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
        ({"label": pa.string(), "path": pa.string()}, ("path", [])),
        ({"image": pa.large_string(), "file_name": pa.string()}, ("file_name", [])),
        ({"path": pa.string(), "image": IMAGE}, ("image", [])),
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


def test_a_column_of_text_that_was_asked_for_has_paths():
    assert choose({"where": pa.string(), "image": IMAGE}, "where") == ("where", [])


def test_a_column_of_paths_is_read_from_the_folder_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for number in range(4):
        Image.new("RGB", (9, 8), (number, 0, 0)).save(tmp_path / "photos" / f"{number}.png")
    names = [f"photos/{number}.png" for number in range(3)] + [str(tmp_path / "photos" / "3.png"), "photos/gone.png"]
    table = pa.table({"image_path": names, "label": [0, 1, 0, 1, 1]})
    pq.write_table(table, tmp_path / "list.parquet")
    source = open_source(tmp_path / "list.parquet")
    assert source.counted() == "5 images at paths in Parquet files"
    for number in range(4):
        with Image.open(io.BytesIO(source[number].data)) as image:
            assert image.getpixel((0, 0)) == (number, 0, 0)
    assert [source.describe(row)[1] for row in range(5)] == [0, 1, 0, 1, 1]
    with pytest.raises(OSError, match=r"gone\.png"):
        source[4]
    assert barlowctl(["data", "pack", str(tmp_path / "list.parquet"), str(tmp_path / "p.beton")]) == 0
    assert [int(Beton.open(tmp_path / "p.beton").image(row)[0, 0, 0]) for row in range(4)] == [0, 1, 2, 3]


def test_paths_that_lead_nowhere_are_named(tmp_path: Path) -> None:
    pq.write_table(pa.table({"path": [None, "a/b.png"]}), tmp_path / "list.parquet")
    with pytest.raises(UserError, match=r"column 'path' has no path of a file that is there, e\.g\. 'a/b\.png'"):
        open_source(tmp_path / "list.parquet")


def test_paths_into_structs_and_names_with_dots():
    schema = pa.schema([("a", pa.struct([("b", IMAGE)])), ("seg.png", pa.binary()), ("views", pa.list_(IMAGE))])
    assert parquet_columns.image_columns(schema) == ["a.b", "seg.png"]
    assert parquet_columns.columns_of_lists(schema) == ["views"]
    assert parquet_columns.path_of(schema, "a.b") == ["a", "b"]
    assert parquet_columns.path_of(schema, "seg.png") == ["seg.png"]
    assert parquet_columns.value_at({"b": {"bytes": b"x"}}, ["b"]) == {"bytes": b"x"}
    assert parquet_columns.value_at(None, ["b"]) is None
