"""Tar shards, zip files, lists of paths and Parquet: what is found in each, and what is refused."""

from __future__ import annotations

import errno
import io
import json
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from barlowctl.data.beton.pack import pack
from barlowctl.data.beton.reader import Beton
from barlowctl.data.sources import open_source, parquet_source
from barlowctl.data.sources.picture import Source
from barlowctl.errors import UserError


def jpeg(value: int, size: tuple[int, int] = (12, 9)) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", size, (value, 255 - value, 128)).save(stream, "JPEG", quality=95)
    return stream.getvalue()


def names(source: Source) -> list[tuple[str, int]]:
    return [source.describe(i) for i in range(len(source))]


def write_tar(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as shard:
        for name, data in members.items():
            header = tarfile.TarInfo(name)
            header.size = len(data)
            shard.addfile(header, io.BytesIO(data))
    return path


def write_zip(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


# ---- tar -------------------------------------------------------------------------------------------------


def test_shards_in_order_with_labels(tmp_path: Path) -> None:
    long = "x" * 150  # a name that needs an extended header
    write_tar(tmp_path / "set-000001.tar", {f"{long}.jpg": jpeg(3), f"{long}.cls": b"2\n"})
    write_tar(
        tmp_path / "set-000000.tar",
        {"a/0.cls": b"1", "a/0.jpg": jpeg(1), "a/0.json": b"{}", "b/0.jpeg": jpeg(2), "b/0.cls": b"0", "._c.jpg": b"x"},
    )
    source = open_source(tmp_path)
    assert "tar shards" in source.kind
    assert names(source) == [
        ("set-000000.tar/a/0.jpg", 1),
        ("set-000000.tar/b/0.jpeg", 0),
        (f"set-000001.tar/{long}.jpg", 2),
    ]
    assert [source[i].data for i in range(3)] == [jpeg(1), jpeg(2), jpeg(3)]
    assert source.class_names == ["0", "1", "2"]


def test_one_tar_without_labels_packs(tmp_path: Path) -> None:
    source = open_source(write_tar(tmp_path / "pile.tar", {f"{i}.jpg": jpeg(i) for i in range(5)}))
    report = pack(source, tmp_path / "out.beton", workers=2)
    beton = Beton.open(tmp_path / "out.beton")
    assert (report.samples, report.passed_through) == (5, 5)
    assert beton.stored(3).tobytes() == jpeg(3)
    assert (beton.labels == -1).all()


def test_splits_by_the_words_of_the_shards_names(tmp_path: Path) -> None:
    for name, value in (("train-0", 1), ("train-1", 2), ("validation-0", 3)):
        write_tar(tmp_path / f"imagenet-{name}.tar", {"0.jpg": jpeg(value)})
    assert len(open_source(tmp_path, "train")) == 2
    assert open_source(tmp_path, "val")[0].data == jpeg(3)
    with pytest.raises(UserError, match="no unlabelled split"):
        open_source(tmp_path, "unlabelled")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"0.txt": b"no image"}, "no images in"),
        ({"train/0.jpg": jpeg(1), "train/1.jpg": jpeg(1)}, "no unlabelled split"),
    ],
)
def test_tars_that_are_refused(tmp_path: Path, content: dict[str, bytes], message: str) -> None:
    with pytest.raises(UserError, match=message):
        open_source(write_tar(tmp_path / "x.tar", content), "unlabelled")


def test_a_damaged_tar(tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_bytes(b"no tar" * 200)
    with pytest.raises(UserError, match="not a readable tar"):
        open_source(tmp_path / "x.tar")


def test_a_tar_cut_short(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "x.tar", {"0.jpg": jpeg(1), "1.jpg": jpeg(2, (300, 200))})
    os.truncate(path, 512 + 1024 + 512 + 300)
    with pytest.raises(UserError, match="not a readable tar file: unexpected end of data"):
        open_source(path)


HUGE = 2_147_483_000


def test_a_huge_class_number_is_refused_and_named(tmp_path: Path) -> None:
    """Every class up to the largest would get a name: gigabytes of them."""
    write_tar(tmp_path / "x.tar", {"0.jpg": jpeg(1), "0.cls": b"3", "1.jpg": jpeg(1), "1.cls": str(HUGE).encode()})
    write_parquet(tmp_path / "x.parquet", [jpeg(1), jpeg(1)], [0, HUGE])
    for name, where in (("x.tar", r"the label \(.cls\)"), ("x.parquet", "column 'label'")):
        with pytest.raises(UserError, match=rf"{name}.*{where} has the class number {HUGE}") as caught:
            open_source(tmp_path / name)
        assert caught.value.allowed == "0 to 999,999"
    for number in (str(HUGE), "9" * 30, "9" * 6000):
        (tmp_path / "x.txt").write_text(f"a.jpg 0\nb.jpg {number}\n")
        with pytest.raises(UserError, match=rf"x\.txt: the label has the class number {number[:40]}$"):
            open_source(tmp_path / "x.txt")
    (tmp_path / "b.jpg").touch()
    (tmp_path / "x.txt").write_text(f"a.jpg {'0' * 30}\nb.jpg 999999\n")
    assert len(open_source(tmp_path / "x.txt").class_names) == 1_000_000


def test_a_label_that_is_no_class_number_at_all(tmp_path: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    labels = pa.array([2**63 + 3], pa.uint64())
    parquet.write_table(pa.table({"image": [jpeg(1)], "label": labels}), tmp_path / "x.parquet")
    with pytest.raises(UserError, match="9223372036854775811"):
        open_source(tmp_path / "x.parquet")


# ---- zip -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["", "photos/", "a/b/"])
def test_zip_with_class_folders(tmp_path: Path, prefix: str) -> None:
    members = {"dog/1.jpg": jpeg(1), "cat/x/2.jpg": jpeg(2), "cat/3.png": b"x"}
    write_zip(tmp_path / "x.zip", {f"{prefix}{name}": data for name, data in members.items()} | {"__MACOSX/a.jpg": b""})
    source = open_source(tmp_path / "x.zip")
    assert names(source) == [(f"{prefix}{n}", i) for n, i in (("cat/3.png", 0), ("cat/x/2.jpg", 0), ("dog/1.jpg", 1))]
    assert source.class_names == ["cat", "dog"]
    assert source[2].data == jpeg(1)


@pytest.mark.parametrize("prefix", ["", "photos/"])
def test_zip_pile(tmp_path: Path, prefix: str) -> None:
    write_zip(tmp_path / "x.zip", {f"{prefix}{name}.jpg": jpeg(1) for name in ("1", "2", "more/3")})
    source = open_source(tmp_path / "x.zip")
    assert {label for _, label in names(source)} == {-1}
    assert source.class_names == []


def test_zip_with_splits(tmp_path: Path) -> None:
    members = {"d/train/a/1.jpg": jpeg(1), "d/train/b/2.jpg": jpeg(2), "d/val/b/3.jpg": jpeg(3)}
    path = write_zip(tmp_path / "x.zip", members)
    assert names(open_source(path, "train")) == [("d/train/a/1.jpg", 0), ("d/train/b/2.jpg", 1)]
    assert names(open_source(path, "val")) == [("d/val/b/3.jpg", 1)]
    with pytest.raises(UserError, match="no unlabelled split"):
        open_source(path, "unlabelled")


def test_zips_that_are_refused_and_a_damaged_member(tmp_path: Path) -> None:
    (tmp_path / "bad.zip").write_bytes(b"PK\x03\x04 nothing")
    with pytest.raises(UserError, match="not a readable zip"):
        open_source(tmp_path / "bad.zip")
    with pytest.raises(UserError, match="no images in"):
        open_source(write_zip(tmp_path / "empty.zip", {"a.txt": b""}))
    path = write_zip(tmp_path / "x.zip", {"1.jpg": jpeg(1), "2.jpg": jpeg(2)})
    content = bytearray(path.read_bytes())
    content[content.index(jpeg(1)) + 200] ^= 255
    path.write_bytes(content)
    report = pack(open_source(path), tmp_path / "out.beton")
    assert report.samples == 1
    assert report.unreadable[0][0] == "1.jpg"
    assert "damaged in the zip" in report.unreadable[0][1]


# ---- lists of paths --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "classes", "labels"),
    [
        ("a b.jpg\nc.jpg\n", [], [-1, -1]),
        ("a b.jpg\tdog\nc.jpg\tcat\n", ["cat", "dog"], [1, 0]),
        ("a b.jpg 0\nc.jpg 2\n", ["0", "1", "2"], [0, 2]),
        ("a b.jpg\t1\nc.jpg\t0\n", ["0", "1"], [1, 0]),
    ],
)
def test_a_list_of_paths(tmp_path: Path, text: str, classes: list[str], labels: list[int]) -> None:
    (tmp_path / "a b.jpg").write_bytes(jpeg(1))
    (tmp_path / "c.jpg").write_bytes(jpeg(2))
    (tmp_path / "list.txt").write_text(text)
    source = open_source(tmp_path / "list.txt")
    assert names(source) == [("a b.jpg", labels[0]), ("c.jpg", labels[1])]
    assert source.class_names == classes
    assert source[0].data == jpeg(1)


def test_lists_that_are_refused_and_a_missing_file(tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_text("\n\n")
    with pytest.raises(UserError, match="lists no images"):
        open_source(tmp_path / "empty.txt")
    (tmp_path / "mixed.txt").write_text("a.jpg\tx\nb.jpg\n")
    with pytest.raises(UserError, match=r"mixed\.txt, line 2"):
        open_source(tmp_path / "mixed.txt")
    (tmp_path / "a.jpg").write_bytes(jpeg(1))
    (tmp_path / "list.txt").write_text(f"{tmp_path}/a.jpg\nnowhere.jpg\n")
    report = pack(open_source(tmp_path / "list.txt"), tmp_path / "out.beton")
    assert (report.samples, report.unreadable[0][0]) == (1, "nowhere.jpg")


# ---- Parquet ---------------------------------------------------------------------------------------------


def write_parquet(path: Path, images: list[bytes | None], labels: list[int] | None, *, nested: bool = True) -> Path:
    import pyarrow as pa
    from pyarrow import parquet

    path.parent.mkdir(parents=True, exist_ok=True)
    column = [{"bytes": image, "path": None} for image in images] if nested else images
    columns = {"image": column} | ({"label": labels} if labels is not None else {})
    table = pa.table(columns)
    note = {"info": {"features": {"label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}}}
    table = table.replace_schema_metadata({"huggingface": json.dumps(note)})
    parquet.write_table(table, path, row_group_size=3)
    return path


@pytest.mark.parametrize("nested", [True, False])
def test_parquet_over_row_groups_and_files(tmp_path: Path, nested: bool) -> None:
    write_parquet(
        tmp_path / "data/train-00000-of-00002.parquet", [jpeg(i) for i in range(8)], [0, 1] * 4, nested=nested
    )
    write_parquet(tmp_path / "data/train-00001-of-00002.parquet", [jpeg(8)], [1], nested=nested)
    write_parquet(tmp_path / "data/test-00000-of-00001.parquet", [jpeg(9)], [0], nested=nested)
    source = open_source(tmp_path)
    assert [label for _, label in names(source)] == [0, 1] * 4 + [1]
    assert source.class_names == ["cat", "dog"]
    assert [source[i].data for i in (8, 0, 7, 3)] == [jpeg(8), jpeg(0), jpeg(7), jpeg(3)]
    assert isinstance(source, parquet_source.ParquetImages)
    assert len(source._cached) <= parquet_source.GROUPS_CACHED
    report = pack(source, tmp_path / "out.beton", workers=3)
    beton = Beton.open(tmp_path / "out.beton")
    assert report.samples == 9
    assert all(beton.stored(i).tobytes() == jpeg(i) for i in range(9))
    assert open_source(tmp_path, "test")[0].data == jpeg(9)


def test_a_row_with_damaged_text_is_unreadable(tmp_path: Path) -> None:
    """Bytes that are no UTF-8 where the path of an image is: pyarrow hands on Python's error."""
    import pyarrow as pa
    import pyarrow.parquet as parquet

    paths = pa.array([b"a.png", b"\x80.png"]).view(pa.string())
    images = pa.StructArray.from_arrays([pa.array([jpeg(0), jpeg(1)]), paths], ["bytes", "path"])
    parquet.write_table(pa.table({"image": images}), tmp_path / "x.parquet")
    source = open_source(tmp_path / "x.parquet")
    assert source[0].data == jpeg(0)
    with pytest.raises(OSError, match="damaged in the Parquet file: 'utf-8' codec can't decode byte 0x80"):
        source[1]


FEW_FILES = """
import resource, sys
from barlowctl.data.beton.pack import pack
from barlowctl.data.sources import open_source
import barlowctl.data.beton.encode, PIL.JpegImagePlugin, pyarrow.parquet
resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))
report = pack(open_source(sys.argv[1]), sys.argv[2], workers=2)
print(report.samples, report.unreadable)
"""


def test_more_parquet_shards_than_a_process_may_open(tmp_path: Path) -> None:
    whole = write_parquet(tmp_path / "whole.parquet", [jpeg(1), jpeg(2)], [0, 1]).read_bytes()
    (tmp_path / "shards").mkdir()
    for number in range(60):
        (tmp_path / "shards" / f"train-{number:05}.parquet").write_bytes(whole)
    command = [sys.executable, "-c", FEW_FILES, str(tmp_path / "shards"), str(tmp_path / "out.beton")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.stdout == "120 []\n", done.stderr


def test_a_parquet_shard_that_cannot_be_opened_is_not_called_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pyarrow import parquet

    def refuse(*_: object) -> None:
        raise OSError(errno.EMFILE, "too many")

    path = write_parquet(tmp_path / "x.parquet", [jpeg(1)], [0])
    monkeypatch.setattr(parquet, "ParquetFile", refuse)
    with pytest.raises(UserError, match=r"x\.parquet cannot be read: Too many open files") as caught:
        open_source(path)
    assert caught.value.next is None


def test_a_parquet_shard_that_vanishes_is_unreadable(tmp_path: Path) -> None:
    for number in range(3):
        write_parquet(tmp_path / f"data/train-{number}.parquet", [jpeg(number)], [0])
    source = open_source(tmp_path)
    (tmp_path / "data/train-1.parquet").unlink()
    report = pack(source, tmp_path / "out.beton")
    assert (report.samples, [name for name, _ in report.unreadable]) == (2, ["row 1"])


def test_parquet_rows_without_an_image_or_label(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "x.parquet", [jpeg(1), None], None)
    report = pack(open_source(path), tmp_path / "out.beton")
    assert report.samples == 1
    assert report.unreadable == [("row 1", "no image in this row")]


def test_parquet_that_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    parquet.write_table(pa.table({"label": [1, 2]}), tmp_path / "x.parquet")
    with pytest.raises(UserError, match="no column of images"):
        open_source(tmp_path / "x.parquet")
    (tmp_path / "x.parquet").write_bytes(b"PAR1 nothing PAR1")
    with pytest.raises(UserError, match="not a readable Parquet"):
        open_source(tmp_path / "x.parquet")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.delitem(sys.modules, "pyarrow.parquet")
    with pytest.raises(UserError, match="need pyarrow") as caught:
        open_source(tmp_path / "x.parquet")
    assert caught.value.next == "pip install pyarrow"


def test_labels_survive_packing(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "x.parquet", [jpeg(i) for i in range(4)], [1, 0, 1, 1])
    pack(open_source(path), tmp_path / "out.beton")
    beton = Beton.open(tmp_path / "out.beton")
    assert np.array_equal(beton.labels, [1, 0, 1, 1])
    assert beton.class_names == ["cat", "dog"]
