"""Images several folders deep: which folders are classes, in folders and archives alike."""

from __future__ import annotations

import shutil
import tarfile
from pathlib import Path

import pytest

from barlowctl.data.sources import open_source
from barlowctl.data.sources.read_options import ReadOptions
from barlowctl.errors import UserError
from tests.data.sources.test_sources import names, picture

INNER = ReadOptions(class_folders="inner")
PLACES = ("lake/frog/1.png", "lake/newt/1.png", "wood/frog/1.png", "wood/owl/1.png")


def stored(folder: Path, kind: str) -> Path:
    """A folder, or an archive with what is in it."""
    if kind == "zip":
        return Path(shutil.make_archive(str(folder), "zip", folder))
    if kind == "tar":
        with tarfile.open(folder.with_suffix(".tar"), "w") as tar:
            for file in sorted(folder.rglob("*.png")):
                tar.add(file, arcname=file.relative_to(folder))
        return folder.with_suffix(".tar")
    return folder


def made(folder: Path, *files: str) -> Path:
    for value, file in enumerate(files):
        picture(folder / file, value)
    return folder


@pytest.mark.parametrize("kind", ["folder", "zip", "tar"])
def test_species_below_places_are_noted_and_can_be_the_classes(tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    source = open_source(path := stored(made(Path("seen"), *PLACES), kind))
    assert source.class_names == ["lake", "wood"]
    command = f"barlowctl data pack {path} seen-inner.beton --class-folders inner"
    assert source.scan_report.notes == [
        "the classes are the 2 outer folders (lake, wood), and the images lie in inner folders of 3 names (frog, newt, "
        f"owl), 1 of them in several of the outer ones; to take the inner ones for classes: {command}"
    ]
    inner = open_source(path, options=INNER)
    assert inner.class_names == ["frog", "newt", "owl"]
    assert [label for _, label in names(inner)] == [0, 1, 0, 2]
    assert inner.scan_report.notes == []
    assert open_source(path, options=ReadOptions(class_folders="outer")).scan_report.notes == []


@pytest.mark.parametrize(
    "files",
    [
        ("a/1.png", "b/1.png"),
        ("a/1.png", "a/more/2.png", "b/1.png", "b/rest/2.png"),  # other folders of one class
        ("a/images/1.png", "b/images/1.png"),  # says only that it holds images
        ("a/2019/1.png", "b/2019/1.png"),  # one name tells nothing apart
        ("a/train/1.png", "b/train/1.png", "a/val/1.png", "b/val/1.png"),
    ],
)
def test_nothing_is_noted_where_the_outer_folders_are_the_classes(tmp_path, files):
    source = open_source(made(tmp_path, *files))
    assert source.class_names == ["a", "b"]
    assert not [note for note in source.scan_report.notes if "inner" in note]


@pytest.mark.parametrize("kind", ["folder", "zip", "tar"])
def test_inner_classes_of_a_split_are_those_of_the_training_split(tmp_path, kind):
    """Other places in val, as where camera traps are split by place."""
    files = [f"train/{file}" for file in PLACES] + ["val/moor/owl/1.png", "val/moor/2.png"]
    path = stored(made(tmp_path / "seen", *files), kind)
    with pytest.raises(UserError, match="has the class folder 'moor', which the training set lacks"):
        open_source(path, "val", INNER)
    (tmp_path / "seen/val/moor/2.png").unlink()
    source = open_source(stored(tmp_path / "seen", kind), "val", INNER)
    assert source.class_names == ["frog", "newt", "owl"]
    assert [label for _, label in names(source)] == [2]


def test_splits_within_the_classes_have_inner_classes_too(tmp_path):
    files = ("a/train/1.png", "a/train/red/1.png", "b/train/red/1.png", "a/val/red/2.png", "b/val/2.png")
    path = made(tmp_path, *files)
    assert open_source(path, options=INNER).class_names == ["a", "red"]
    with pytest.raises(UserError, match="has the class folder 'b'"):
        open_source(path, "val", INNER)


def test_what_has_no_folders_has_no_class_folders(tmp_path):
    picture(tmp_path / "1.png")
    with pytest.raises(UserError, match=r"--class-folders is 'inner', but .*1\.png is read as ") as refused:
        open_source(tmp_path / "1.png", options=INNER)
    assert refused.value.next == "without --class-folders"
