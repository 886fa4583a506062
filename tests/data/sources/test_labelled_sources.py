"""Splits and labels of every kind of source: what is found where, and what is said of it."""

from __future__ import annotations

import io
import json
import os
import shlex
import tarfile
import unicodedata
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from barlowctl.data import home
from barlowctl.data.sources import open_source
from barlowctl.data.sources.picture import Source
from barlowctl.data.sources.read_options import ReadOptions
from barlowctl.errors import UserError


def _picture() -> bytes:
    stream = io.BytesIO()
    Image.new("L", (4, 4), 9).save(stream, "PNG")
    return stream.getvalue()


PICTURE = _picture()


def written_as(kind: str, place: Path, files: dict[str, bytes]) -> Path:
    """The same files as a folder, a zip or a tar file."""
    place.mkdir(exist_ok=True)
    path = place / f"x.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name, data in files.items():
                archive.writestr(name, data)
    elif kind == "tar":
        with tarfile.open(path, "w") as shard:
            for name, data in files.items():
                header = tarfile.TarInfo(name)
                header.size = len(data)
                shard.addfile(header, io.BytesIO(data))
    else:
        for name, data in files.items():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(data)
    return path


def images(*names: str) -> dict[str, bytes]:
    return dict.fromkeys(names, PICTURE)


def labelled(source: Source) -> list[tuple[str, str]]:
    """(last two parts of the name, class name or "") of every image."""
    classes = [*source.class_names, ""]
    described = [source.describe(i) for i in range(len(source))]
    return [("/".join(name.split("/")[-2:]), classes[label]) for name, label in described]


KINDS = ("folder", "zip", "tar")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("train", "held_out", "above"),
    [
        ("Training", "Testing", ""),
        ("TRAIN", "VAL", "data set/"),
        ("train_images", "test_images", ""),
        ("seg_train", "seg_test", "archive/seg/"),
        ("train", "dev", "images/"),
        ("train/images", "valid/images", ""),
    ],
)
def test_split_folders_keep_test_images_out_of_training(
    tmp_path: Path, kind: str, train: str, held_out: str, above: str
) -> None:
    names = [f"{above}{part}/{c}/{i}.png" for part in (train, held_out) for c in ("glioma", "none") for i in range(2)]
    path = written_as(kind, tmp_path, images(*names, "notes/a.txt", "labels/train/1.txt"))
    for split, part in (("train", train), ("val", held_out), ("test", held_out)):
        source = open_source(path, split)
        assert labelled(source) == [(f"{c}/{i}.png", c) for c in ("glioma", "none") for i in range(2)]
        where = source.path if kind == "folder" else source.describe(0)[0]
        assert f"{above}{part}" in str(where)
    with pytest.raises(UserError, match="no unlabelled split"):
        open_source(path, "unlabelled")


@pytest.mark.parametrize("kind", KINDS)
def test_splits_within_the_classes(tmp_path: Path, kind: str) -> None:
    names = ["cat/train/1.png", "cat/test/2.png", "dog/train/3.png", "dog/train/4.png", "dog/test/5.png"]
    path = written_as(kind, tmp_path, images(*names))
    train, test = open_source(path), open_source(path, "val")
    assert labelled(train) == [("train/1.png", "cat"), ("train/3.png", "dog"), ("train/4.png", "dog")]
    assert labelled(test) == [("test/2.png", "cat"), ("test/5.png", "dog")]
    assert train.scan_report.notes == ["each class folder has its own splits"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_stray_picture_takes_no_label_from_the_others(tmp_path: Path, kind: str) -> None:
    names = [f"{c}/{i}.png" for c in ("cat", "dog", "scan.tif") for i in range(2)]
    source = open_source(written_as(kind, tmp_path, images(*names, "cover.png", "more.png")))
    assert sorted(label for _, label in labelled(source)) == [
        "",
        "",
        "cat",
        "cat",
        "dog",
        "dog",
        "scan.tif",
        "scan.tif",
    ]
    assert source.class_names == ["cat", "dog", "scan.tif"]
    assert source.scan_report.notes == ["2 images beside the class folders: kept without a label"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_stray_picture_in_either_split(tmp_path: Path, kind: str) -> None:
    names = [f"{part}/{c}/{i}.png" for part in ("train", "val") for c in "ab" for i in range(2)]
    path = written_as(kind, tmp_path, images(*names, "train/sheet.png", "val/sheet.png", "logo.png"))
    for split in ("train", "val"):
        source = open_source(path, split)
        assert sorted(label for _, label in labelled(source)) == ["", "a", "a", "b", "b"]
        assert "1 image beside the split folders is not read" in source.scan_report.notes


@pytest.mark.parametrize("kind", KINDS)
def test_a_pile_with_some_folders_stays_a_pile_and_says_how_they_become_classes(tmp_path: Path, kind: str) -> None:
    path = written_as(kind, tmp_path, images("1.png", "2.png", "3.png", "a/4.png", "b/5.png"))
    source = open_source(path)
    assert source.class_names == []
    assert source.other_classes
    (note,) = source.scan_report.notes
    pile, _, command = note.partition("; to take the folders for classes: ")
    assert pile == "3 images beside 2 folders with 2: taken for a pile, no folder for a class"
    words = shlex.split(command)
    assert words[:4] == ["barlowctl", "data", "pack", str(source.path)]
    assert words[4].endswith("-inner.beton")
    classes = open_source(path, options=ReadOptions(class_folders="inner"))
    assert words[5:] == ["--class-folders", "inner"]
    assert sorted(label for _, label in labelled(classes)) == ["", "", "", "a", "b"]
    assert classes.scan_report.notes == ["3 images beside the class folders: kept without a label"]
    pile_all_the_same = open_source(path, options=ReadOptions(class_folders="outer"))
    assert pile_all_the_same.scan_report.notes == [pile]
    assert not pile_all_the_same.other_classes


def test_a_pile_that_a_table_labels_has_its_classes(tmp_path: Path) -> None:
    table = {"labels.csv": b"file,label\n1.png,x\n2.png,y\n3.png,x\na/4.png,y\nb/5.png,x\n"}
    source = open_source(
        written_as("folder", tmp_path, images("1.png", "2.png", "3.png", "a/4.png", "b/5.png") | table)
    )
    assert source.class_names == ["x", "y"]
    assert not source.other_classes


def test_folders_that_hold_everything_are_no_classes(tmp_path: Path) -> None:
    path = written_as("folder", tmp_path, images("flowers/rose/1.png", "flowers/tulip/2.png") | {"flowers/a.md": b""})
    source = open_source(path)
    assert source.class_names == ["rose", "tulip"]
    assert source.scan_report.notes == ["classes are the folders in 'flowers'"]
    assert open_source(written_as("folder", tmp_path / "b", images("cats/1.png", "cats/2.png"))).class_names == ["cats"]
    assert open_source(written_as("folder", tmp_path / "c", images("images/1.png", "images/x/2.png"))).class_names == []


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("train", "masks"),
    [
        ("images", "masks"),
        ("JPEGImages", "SegmentationClass"),
        ("images/train", "labels"),
        ("train/images", "train/gt"),
        ("training/image", "training/ground truth"),
    ],
)
def test_masks_beside_images_are_no_class(tmp_path: Path, kind: str, train: str, masks: str) -> None:
    source = open_source(written_as(kind, tmp_path, images(f"{train}/1.png", f"{train}/2.png", f"{masks}/1.png")))
    assert [label for _, label in labelled(source)] == ["", ""]
    passed = source.scan_report.skipped["folders of masks and annotations beside the images"]
    assert passed.examples == [masks]
    classes = open_source(written_as(kind, tmp_path / "b", images("labels/1.png", "prices/2.png")))
    assert classes.class_names == ["labels", "prices"]


@pytest.mark.parametrize("kind", KINDS)
def test_an_unknown_class_is_refused_by_name(tmp_path: Path, kind: str) -> None:
    path = written_as(kind, tmp_path, images("Train/a/1.png", "Train/b/1.png", "Test/a/2.png", "Test/yak/3.png"))
    with pytest.raises(UserError, match="'yak', which the training set lacks"):
        open_source(path, "test")


def test_class_folders_of_two_forms_of_unicode_are_one_class(tmp_path: Path) -> None:
    train, test = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
    names = [f"train/{train}/1.png", "train/tea/2.png", f"test/{test}/3.png", "test/tea/4.png"]
    source = open_source(written_as("folder", tmp_path, images(*names)), "test")
    assert [source.describe(i)[1] for i in range(2)] == [0, 1]
    assert source.class_names == [train, "tea"]


def test_a_class_folder_that_is_not_utf_8(tmp_path: Path) -> None:
    source = open_source(written_as("folder", tmp_path, images(os.fsdecode(b"caf\xe9/1.png"), "tea/2.png")))
    assert source.class_names == [r"caf\xe9", "tea"]
    assert source[0].data == PICTURE


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("side", "labels"),
    [
        ({"0.cls": b"1\n", "1.cls": b"0"}, ["1", "0", ""]),
        ({"0.cls": b"dog", "1.cls": b"cat", "2.cls": b" dog\r\n"}, ["dog", "cat", "dog"]),
        ({"0.json": b'{"label": 1}', "1.json": b'{"w": 3, "label": 0}'}, ["1", "0", ""]),
        ({"0.json": b'{"Class": "dog"}', "1.json": b'{"Class": null}'}, ["dog", "", ""]),
        ({"0.json": b'{"caption": "x"}', "0.cls": b"1"}, ["1", "", ""]),
        ({"0.txt": b"2", "1.txt": b"1"}, ["2", "1", ""]),
    ],
)
def test_labels_in_files_beside_images(tmp_path: Path, kind: str, side: dict[str, bytes], labels: list[str]) -> None:
    source = open_source(written_as(kind, tmp_path, images("0.png", "1.png", "2.png") | side))
    assert [label for _, label in labelled(source)] == labels


@pytest.mark.parametrize("kind", KINDS)
def test_files_beside_images_that_are_no_labels_are_said(tmp_path: Path, kind: str) -> None:
    side = {"0.txt": b"a photo of a cat on a mat", "0.json": b'{"caption": "x", "url": "y"}'}
    source = open_source(written_as(kind, tmp_path, images("0.png", "1.png") | side))
    assert source.class_names == []
    notes = " ".join(source.scan_report.notes)
    assert ".json files lie beside the images: no label in them (keys: caption, url)" in notes
    assert ".txt files lie beside the images: texts, not labels" in notes


def test_words_in_shards_count_among_the_training_shards_classes(tmp_path: Path) -> None:
    for name, labels in (("train-0", "cat dog"), ("train-1", "emu cat"), ("eval-0", "emu dog")):
        files = {f"{i}.cls": word.encode() for i, word in enumerate(labels.split())}
        written_as("tar", tmp_path, images("0.png", "1.png") | files).rename(tmp_path / f"{name}.tar")
    train, val = open_source(tmp_path), open_source(tmp_path, "val")
    assert [label for _, label in labelled(train)] == ["cat", "dog", "emu", "cat"]
    assert [label for _, label in labelled(val)] == ["emu", "dog"]
    assert train.class_names == val.class_names == ["cat", "dog", "emu"]
    side = images("0.png") | {"0.cls": b"yak"}
    written_as("tar", tmp_path, side).rename(tmp_path / "eval-0.tar")
    with pytest.raises(UserError, match="class 'yak', which the training set lacks"):
        open_source(tmp_path, "val")


def write_parquet(
    path: Path, labels: Any, column: str = "label", note: dict[str, Any] | None = None, **more: Any
) -> Path:
    import pyarrow as pa
    from pyarrow import parquet

    table = pa.table({"image": [{"bytes": PICTURE, "path": None}] * len(labels), column: labels, **more})
    if note is not None:
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": note}})})
    path.parent.mkdir(exist_ok=True)
    parquet.write_table(table, path, row_group_size=2)
    return path


@pytest.mark.parametrize(
    ("values", "labels"),
    [
        (["cat", "dog", None], ["cat", "dog", ""]),
        ([True, False, True], ["true", "false", "true"]),
        ([0.0, 1.0, None], ["0", "1", ""]),
        (["1", "0", "1"], ["1", "0", "1"]),
        ([3, None, -1], ["3", "", ""]),
        ([[1], [0], [1]], ["1", "0", "1"]),
    ],
)
def test_labels_in_parquet(tmp_path: Path, values: Sequence[object], labels: list[str]) -> None:
    source = open_source(write_parquet(tmp_path / "x.parquet", values))
    assert [label for _, label in labelled(source)] == labels
    assert [
        label for _, label in labelled(open_source(write_parquet(tmp_path / "y.parquet", values, "Class")))
    ] == labels


def test_regression_targets_in_parquet_are_said(tmp_path: Path) -> None:
    source = open_source(write_parquet(tmp_path / "x.parquet", [0.5, 1.0]))
    assert [label for _, label in labelled(source)] == ["", ""]
    (note,) = source.scan_report.notes
    assert "x.parquet: column 'label' holds numbers with fractions (0.5)" in note


def test_categories_and_names_of_classes_in_parquet(tmp_path: Path) -> None:
    import pyarrow as pa

    words = pa.array(["dog", "cat", "dog"]).dictionary_encode()
    assert [
        label for _, label in labelled(open_source(write_parquet(tmp_path / "x.parquet", words)))
    ] == words.to_pylist()
    note = {"digit": {"names": ["zero", "one"], "_type": "ClassLabel"}}
    source = open_source(write_parquet(tmp_path / "y.parquet", [1, 0, -1], "digit", note))
    assert [label for _, label in labelled(source)] == ["one", "zero", ""]


def test_columns_that_may_be_labels_are_said(tmp_path: Path) -> None:
    source = open_source(write_parquet(tmp_path / "x.parquet", ["m", "n"], "diagnosis"))
    assert source.class_names == []
    assert source.scan_report.notes == [
        "no column is called label or class; not used: 'diagnosis'; --label-column NAME takes one"
    ]
    notes = {name: {"names": ["a", "b"], "_type": "ClassLabel"} for name in ("label", "coarse")}
    source = open_source(write_parquet(tmp_path / "y.parquet", [0, 1], "label", notes, coarse=[1, 0]))
    assert [label for _, label in labelled(source)] == ["a", "b"]
    (note,) = source.scan_report.notes
    assert note == "labels are those of column 'label'; others could be: 'coarse'; --label-column NAME takes one"


def test_words_in_parquet_count_among_the_training_rows_classes(tmp_path: Path) -> None:
    write_parquet(tmp_path / "data/TRAIN-00000-of-00002.parquet", ["cat", "dog"])
    write_parquet(tmp_path / "data/TRAIN-00001-of-00002.parquet", ["emu", None])
    write_parquet(tmp_path / "data/testing-00000-of-00001.parquet", ["emu", "dog"])
    train, test = open_source(tmp_path), open_source(tmp_path, "test")
    assert [label for _, label in labelled(train)] == ["cat", "dog", "emu", ""]
    assert [label for _, label in labelled(test)] == ["emu", "dog"]
    assert test.class_names == ["cat", "dog", "emu"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("table", "content"),
    [
        ("metadata.csv", "file_name,label\n0.png,dog\n2.png,cat\nelsewhere.png,emu\n"),
        ("metadata.jsonl", '{"file_name": "2.png", "label": "cat"}\n{"file_name": "0.png", "label": "dog"}\n'),
        ("labels.tsv", "label\timage\ndog\t0.png\ncat\t2.png\n"),
        ("breeds.csv", "id,breed\n2,cat\n0,dog\n"),
        ("annotations.txt", "0.png\tdog\t0\t1\t62\t63\n2.png\tcat\t4\t1\t2\t3\n"),
        ("labels.txt", "0.png dog\n2.png cat\n"),
        ("plain.csv", "0.png,dog\n2.png,cat\n"),
        ("_classes.csv", "filename, cat, dog\n0.png, 0, 1\n2.png, 1, 0\n"),
        ("labels.json", '{\n "0.png": "dog",\n "2.png": "cat"}'),
        ("dataset.json", '{"labels": [["0.png", "dog"], ["2.png", "cat"]]}'),
        ("records.json", '[{"file": "0.png", "class": "dog"},\n {"file": "2.png", "class": "cat"}]'),
    ],
)
def test_labels_in_a_table_beside_images(tmp_path: Path, kind: str, table: str, content: str) -> None:
    path = written_as(kind, tmp_path, images("0.png", "1.png", "2.png") | {table: content.encode()})
    source = open_source(path)
    assert [label for _, label in labelled(source)] == ["dog", "", "cat"]
    assert f"labels are those of {table}" in source.scan_report.notes
    assert source.scan_report.skipped == {}
    if table == "_classes.csv":
        assert "_classes.csv: each of the columns 'cat' to 'dog' is a class" in source.scan_report.notes


@pytest.mark.parametrize("kind", KINDS)
def test_rows_of_a_table_without_an_image_are_counted_by_name(tmp_path: Path, kind: str) -> None:
    files = images("0.png", "1.png")
    rows = b"file_name,label\n0.png,dog\n8.png,dog\n1.png,cat\n8.png,dog\n9.png,cat\n"
    source = open_source(written_as(kind, tmp_path / "a", files | {"labels.csv": rows}))
    assert [label for _, label in labelled(source)] == ["dog", "cat"]
    assert "labels.csv has labels of 2 images not here: '8.png', '9.png'" in source.scan_report.notes
    source = open_source(written_as(kind, tmp_path / "b", files | {"labels.csv": b"file_name,label\n7.png,dog\n"}))
    assert source.class_names == []
    assert source.scan_report.notes == ["labels.csv labels none of the images here ('7.png'): not used"]


@pytest.mark.parametrize(
    "table", ["file_name,label\n0.PNG,dog\n1.Png,cat\n", "'file_name','label'\n'0.png','dog'\n'1.png','cat'\n"]
)
def test_a_table_in_capitals_or_in_single_quotes(tmp_path: Path, table: str) -> None:
    source = open_source(written_as("folder", tmp_path, images("0.png", "1.png") | {"labels.csv": table.encode()}))
    assert [label for _, label in labelled(source)] == ["dog", "cat"]
    assert source.scan_report.notes == ["labels are those of labels.csv"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_table_for_each_split_or_one_above_them(tmp_path: Path, kind: str) -> None:
    files = images("train/0.png", "train/1.png", "test/0.png")
    each = {"train/metadata.csv": b"file_name,label\n0.png,emu\n1.png,cat\n", "test/metadata.csv": b"0.png,emu\n"}
    above = {"all.csv": b"path,label\ntrain/0.png,emu\ntrain/1.png,cat\ntest/0.png,emu\n"}
    called = {"train.csv": b"id,label\n0,emu\n1,cat\n", "test.csv": b"id,label\n0,emu\n"}
    tiny = {"train/train_labels.txt": b"0.png emu\n1.png cat\n", "test/val_annotations.txt": b"0.png\temu\t1\t2\n"}
    for place, tables in (("a", each), ("b", above), ("c", called), ("d", tiny)):
        path = written_as(kind, tmp_path / place, files | tables)
        assert [label for _, label in labelled(open_source(path))] == ["emu", "cat"]
        assert [label for _, label in labelled(open_source(path, "test"))] == ["emu"]
        assert open_source(path, "test").class_names == ["cat", "emu"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_table_that_says_the_splits(tmp_path: Path, kind: str) -> None:
    table = b"filename,label,split\n0.png,dog,train\n1.png,cat,train\n2.png,dog,valid\n"
    path = written_as(kind, tmp_path, images("im/0.png", "im/1.png", "im/2.png", "im/3.png") | {"labels.csv": table})
    train, val = open_source(path), open_source(path, "val")
    assert [label for _, label in labelled(train)] == ["dog", "cat"]
    assert [label for _, label in labelled(val)] == ["dog"]
    assert val.class_names == ["cat", "dog"]
    assert "labels.csv says which images are of the val split: 1 of 4" in val.scan_report.notes
    if kind == "folder":
        assert home.resolve(str(path), "val") == path
        with pytest.raises(UserError, match="no unlabelled split"):
            home.resolve(str(path), "unlabelled")
    with pytest.raises(UserError, match="no unlabelled split"):
        open_source(path, "unlabelled")


def test_a_table_that_says_the_splits_and_no_labels(tmp_path: Path) -> None:
    table = b"file,split\n0.png,train\n1.png,train\n2.png,test\n"
    path = written_as("folder", tmp_path, images("0.png", "1.png", "2.png") | {"x.csv": table})
    assert labelled(open_source(path)) == [("0.png", ""), ("1.png", "")]
    assert labelled(open_source(path, "test")) == [("2.png", "")]
    assert open_source(path).scan_report.notes == ["x.csv says which images are of the train split: 2 of 3"]


def test_a_table_beside_a_tar_file_labels_its_images(tmp_path: Path) -> None:
    written_as("tar", tmp_path, images("im/0.png", "im/1.png"))
    (tmp_path / "labels.csv").write_bytes(b"file,label\n0.png,dog\n1.png,cat\n")
    source = open_source(tmp_path)
    assert [label for _, label in labelled(source)] == ["dog", "cat"]
    assert source.scan_report.skipped == {}


def test_a_readme_takes_no_labels_from_images(tmp_path: Path) -> None:
    long = {"README.txt": b"a long text about the images\n" * 3}
    labels = {"0.txt": b"dog", "1.txt": b"cat"}
    source = open_source(written_as("tar", tmp_path, long | images("0.png", "1.png") | labels))
    assert [label for _, label in labelled(source)] == ["dog", "cat"]
    assert source.scan_report.skipped[".txt files"].count == 1
    assert source.scan_report.notes == []
    source = open_source(written_as("tar", tmp_path / "b", long | {"x.json": b"{}"} | images("a/0.png", "b/1.png")))
    assert source.class_names == ["a", "b"]
    assert {kind: met.count for kind, met in source.scan_report.skipped.items()} == {".txt files": 1, ".json files": 1}
    assert source.scan_report.notes == []


@pytest.mark.parametrize(
    ("files", "classes"),
    [
        ({"n01440764": "n01440764_1.png", "n01443537": "n01443537_9.png"}, ["n01440764", "n01443537"]),
        ({"n01440764": "1.png", "n01443537": "2.png"}, ["n01440764", "n01443537"]),
        ({"07": "07_1.png", "08": "08_1.png"}, []),
        ({"c1": "c1_0.png", "c2": "c2_0.png"}, ["c1", "c2"]),
        ({"cat": "0.png", "golden_retriever": "0.png"}, ["cat", "golden_retriever"]),
        ({"cat-000": "0.png", "cat-001": "1.png", "dog-000": "0.png"}, ["cat", "dog"]),
        ({"猫 貓": "0.png", "犬狗": "0.png"}, ["犬狗", "猫 貓"]),
        ({"shard-000": "shard-000_0.png", "shard-001": "shard-001_0.png"}, []),
        ({"train-00000-of-2-566cc9b19d7203f8": "0.png", "train-00001-of-2-aacc9b19d7203f8b": "1.png"}, []),
    ],
)
def test_a_tar_file_for_each_class(tmp_path: Path, files: dict[str, str], classes: list[str]) -> None:
    for stem, name in files.items():
        written_as("tar", tmp_path, images(name)).rename(tmp_path / f"{stem}.tar")
    source = open_source(tmp_path)
    assert source.class_names == classes
    labels = [label for _, label in labelled(source)]
    if classes:
        assert all(stem.startswith(label) for stem, label in zip(sorted(files), labels, strict=True))
        assert any(note.startswith("classes are the files") for note in source.scan_report.notes)
    else:
        assert labels == [""] * len(files)
        assert any("none for a class" in note for note in source.scan_report.notes)


def test_tar_files_of_classes_in_split_folders_and_of_other_sources(tmp_path: Path) -> None:
    for stem in ("train/cat", "train/dog", "val/dog"):
        (tmp_path / "a" / stem).parent.mkdir(parents=True, exist_ok=True)
        written_as("tar", tmp_path, images("0.png")).rename(tmp_path / "a" / f"{stem}.tar")
    assert labelled(open_source(tmp_path / "a", "val")) == [("dog.tar/0.png", "dog")]
    assert open_source(tmp_path / "a", "val").class_names == ["cat", "dog"]
    (tmp_path / "b").mkdir()
    for stem in ("train-cc", "train-laion", "val-coco", "val-voc"):
        written_as("tar", tmp_path, images("0.png")).rename(tmp_path / "b" / f"{stem}.tar")
    assert open_source(tmp_path / "b", "val").class_names == []


def test_parquet_files_of_a_class_each(tmp_path: Path) -> None:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    for stem, rows in (("cat", 1), ("dog", 2)):
        pq.write_table(pa.table({"image": [PICTURE] * rows}), tmp_path / f"{stem}.parquet")
    source = open_source(tmp_path)
    assert [label for _, label in labelled(source)] == ["cat", "dog", "dog"]


def test_tables_that_do_not_label_images(tmp_path: Path) -> None:
    boxes = b"file,class,x\n0.png,cat,1\n0.png,dog,2\n1.png,cat,3\n"
    coco = b'{"images": [{"id": 1, "file_name": "0.png"}], "annotations": [{"image_id": 1, "category_id": 2}]}'
    others = {
        "coco.json": coco,
        "boxes.csv": boxes,
        "people.csv": b"name,label\nann,1\n",
        "broken.csv": b'"\n',
        "empty.csv": b"",
    }
    source = open_source(written_as("folder", tmp_path, images("0.png", "1.png") | others))
    assert source.class_names == []
    assert source.scan_report.notes == ["boxes.csv has several labels for one image ('0.png'): not used as classes"]
    assert source.scan_report.skipped[".csv files"].count == 4
    targets = {"metadata.csv": b"file_name,label\n0.png,0.5\n1.png,2\n"}
    source = open_source(written_as("folder", tmp_path / "b", images("0.png", "1.png") | targets))
    assert source.class_names == []
    assert any("targets of a regression" in note for note in source.scan_report.notes)


@pytest.mark.parametrize(("above", "test"), [("", "test"), ("default/", "test"), ("a/b/", "Validation")])
def test_shards_in_split_folders(tmp_path: Path, above: str, test: str) -> None:
    top = tmp_path / "x"
    for split, words in (("train", ["cat", "dog", "emu"]), (test, ["emu", "dog"])):
        (top / above / split).mkdir(parents=True)
        write_parquet(top / above / split / "0000.parquet", words)
    train, held_out = open_source(top), open_source(top, "val")
    assert [label for _, label in labelled(train)] == ["cat", "dog", "emu"]
    assert [label for _, label in labelled(held_out)] == ["emu", "dog"]
    assert held_out.class_names == ["cat", "dog", "emu"]
    with pytest.raises(UserError, match="no unlabelled split"):
        open_source(top, "unlabelled")


def test_tar_files_in_split_folders(tmp_path: Path) -> None:
    for split, word in (("train", "a"), ("train", "b"), ("val", "b")):
        (tmp_path / "x" / split).mkdir(parents=True, exist_ok=True)
        shard = written_as("tar", tmp_path, images("0.png") | {"0.cls": word.encode()})
        shard.rename(tmp_path / "x" / split / f"{word}.tar")
    assert [label for _, label in labelled(open_source(tmp_path / "x"))] == ["a", "b"]
    assert [label for _, label in labelled(open_source(tmp_path / "x", "val"))] == ["b"]
    assert open_source(tmp_path / "x", "test").class_names == ["a", "b"]
