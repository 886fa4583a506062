"""ImageNet's validation images in one folder have the labels of its devkit."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from barlowctl.data.labels.imagenet_devkit import TRUTH
from barlowctl.data.sources import open_source
from barlowctl.errors import UserError

NUMBERS = {1: "n03", 2: "n01", 3: "n02"}
"""Class numbers of the devkit are not in the order of the names."""


@pytest.fixture
def imagenet(tmp_path: Path) -> Path:
    """Two training images of each of three classes and five validation images, of classes 1, 3, 2, 2, 1."""
    io = pytest.importorskip("scipy.io")
    for name in NUMBERS.values():
        (tmp_path / "train" / name).mkdir(parents=True)
        for number in (1, 2):
            Image.new("RGB", (8, 8)).save(tmp_path / "train" / name / f"{name}_{number}.JPEG")
    (tmp_path / "val").mkdir()
    for number in range(1, 6):
        Image.new("RGB", (8, 8)).save(tmp_path / "val" / f"ILSVRC2012_val_{number:08}.JPEG")
    data = tmp_path / "ILSVRC2012_devkit_t12" / "data"
    data.mkdir(parents=True)
    (data / TRUTH).write_text("1\n3\n2\n2\n1\n")
    synsets = np.zeros((3, 1), dtype=[(name, "O") for name in ("ILSVRC2012_ID", "WNID", "words", "num_children")])
    for row, (number, name) in enumerate(NUMBERS.items()):
        synsets[row, 0] = (np.uint16(number), name, "a word", np.uint8(0))
    io.savemat(data / "meta.mat", {"synsets": synsets})
    return tmp_path


def labels(folder: Path, split: str) -> tuple[list[str], list[int]]:
    source = open_source(folder, split)
    return source.class_names, [source.describe(row)[1] for row in range(len(source))]


def test_the_validation_images_have_the_labels_of_the_ground_truth(imagenet: Path) -> None:
    assert labels(imagenet, "val") == (["n01", "n02", "n03"], [2, 1, 0, 0, 2])
    source = open_source(imagenet, "test")
    assert source.scan_report.skipped == {}  # the devkit's files are read
    assert source.scan_report.notes == [f"labels are those of {imagenet / 'ILSVRC2012_devkit_t12/data' / TRUTH}"]


def test_a_part_of_them_keeps_its_own_lines(imagenet: Path) -> None:
    (imagenet / "val" / "ILSVRC2012_val_00000001.JPEG").unlink()
    (imagenet / "val" / "ILSVRC2012_val_00000003.JPEG").unlink()
    assert labels(imagenet, "val") == (["n01", "n02", "n03"], [1, 0, 2])


def test_the_folder_of_the_validation_images_alone_finds_it_beside_itself(imagenet: Path) -> None:
    assert labels(imagenet / "val", "train") == (["n01", "n02", "n03"], [2, 1, 0, 0, 2])


@pytest.mark.parametrize("place", [".", "val", "devkit"])
def test_its_two_files_may_lie_elsewhere(imagenet: Path, place: str) -> None:
    (imagenet / place).mkdir(exist_ok=True)
    for file in list((imagenet / "ILSVRC2012_devkit_t12/data").iterdir()):
        file.rename(imagenet / place / file.name)
    assert labels(imagenet, "val") == (["n01", "n02", "n03"], [2, 1, 0, 0, 2])


def test_without_the_devkit_it_is_said_where_labels_are(imagenet: Path) -> None:
    (imagenet / "ILSVRC2012_devkit_t12/data/meta.mat").unlink()
    source = open_source(imagenet, "val")
    assert source.describe(0)[1] == -1
    assert source.scan_report.notes[0].endswith("unpack ILSVRC2012_devkit_t12.tar.gz beside them")


def test_other_images_are_not_asked_of_it(imagenet: Path) -> None:
    (imagenet / "val" / "cat.JPEG").write_bytes((imagenet / "val" / "ILSVRC2012_val_00000001.JPEG").read_bytes())
    source = open_source(imagenet, "val")
    assert source.describe(0)[1] == -1
    assert source.scan_report.notes == []


@pytest.mark.parametrize(
    ("truth", "message"),
    [
        ("1\n3\n", r"has 2 lines, and an image is number 3"),
        ("1\n3\n4\n1\n1\n", "has class 4, which"),
        ("cat\n", "'cat'"),
    ],
)
def test_a_ground_truth_of_other_images_is_refused(imagenet: Path, truth: str, message: str) -> None:
    (imagenet / "ILSVRC2012_devkit_t12/data" / TRUTH).write_text(truth)
    with pytest.raises(UserError, match=message) as refused:
        open_source(imagenet, "val")
    assert refused.value.next == "unpack the archive again"


def test_a_damaged_list_of_classes_is_refused(imagenet: Path) -> None:
    (imagenet / "ILSVRC2012_devkit_t12/data/meta.mat").write_bytes(b"MATLAB")
    with pytest.raises(UserError, match="is not the devkit's list of classes"):
        open_source(imagenet, "val")


def test_without_scipy_it_is_named(imagenet: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scipy.io", None)
    with pytest.raises(UserError, match="needs SciPy, which is not installed") as refused:
        open_source(imagenet, "val")
    assert refused.value.next == "pip install scipy"
