"""Which splits lie beside the one that was opened, in every layout that has splits."""

from __future__ import annotations

import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest

from barlowctl.data.sources import open_source, other_splits
from tests.data.sources.test_sources import idx, picture


def folder(top: Path) -> Path:
    for name in ("train/a/1.png", "train/b/1.png", "val/a/2.png", "val/b/2.png"):
        picture(top / name)
    return top


def within_classes(top: Path) -> Path:
    for name in ("a/train/1.png", "b/train/1.png", "a/val/2.png", "b/val/2.png"):
        picture(top / name)
    return top


def zipped(top: Path) -> Path:
    return Path(shutil.make_archive(str(top), "zip", folder(top)))


def one_tar(top: Path) -> Path:
    folder(top)
    with tarfile.open(top.with_suffix(".tar"), "w") as tar:
        tar.add(top, arcname="images")
    return top.with_suffix(".tar")


def shards(top: Path) -> Path:
    for split in ("train", "val"):
        picture(top / f"{split}.png")
        with tarfile.open(top / f"photos-{split}-0.tar", "w") as tar:
            tar.add(top / f"{split}.png", arcname="1.png")
        (top / f"{split}.png").unlink()
    return top


def table(top: Path) -> Path:
    lines = [f"{picture(top / f'{name}.png').name},{split}" for name, split in (("1", "train"), ("2", "val"))]
    (top / "list.csv").write_text("\n".join(["file,split", *lines]))
    return top / "list.csv"


LAYOUTS = (folder, within_classes, zipped, one_tar, shards, table)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_each_split_is_the_other_of_the_other(tmp_path, layout):
    path = layout(tmp_path / "top")
    assert other_splits(open_source(path), path) == ["val"]
    assert other_splits(open_source(path, "val"), path) == ["train"]
    assert other_splits(open_source(path, "test"), path) == ["train"]  # val stands in for it


def test_arrays_have_a_test_split(tmp_path):
    for prefix in ("train", "t10k"):
        idx(tmp_path / f"{prefix}-images-idx3-ubyte", np.zeros((2, 8, 8)))
    assert other_splits(open_source(tmp_path), tmp_path) == ["test"]
    assert other_splits(open_source(tmp_path, "val"), tmp_path) == ["train"]


def test_images_without_splits_have_no_other(tmp_path):
    for name in ("a/1.png", "b/1.png"):
        picture(tmp_path / name)
    assert other_splits(open_source(tmp_path), tmp_path) == []
    assert other_splits(open_source(tmp_path, "val"), tmp_path) == []
