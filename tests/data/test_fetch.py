"""Bringing known data sets: from a folder, from the Debian package, by a download that fails."""

from __future__ import annotations

import dataclasses
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torchvision

from barlowctl.data import fetch, home
from barlowctl.data.beton.reader import Beton
from barlowctl.errors import UserError
from tests.data.sources.test_sources import cifar10, idx


def change(monkeypatch, name: str, *, images: dict[str, int] | None = None, **values: Any) -> None:
    """Another edition of a data set, or another way to it."""
    download = fetch.DOWNLOADS[name]
    if images is not None:
        values["dataset"] = dataclasses.replace(download.dataset, images=images)
    monkeypatch.setitem(fetch.DOWNLOADS, name, dataclasses.replace(download, **values))


@pytest.fixture(autouse=True)
def data(tmp_path, monkeypatch) -> Path:
    """A home of the test's own, and small editions of the data sets."""
    monkeypatch.setenv("BARLOWCTL_DATA", str(tmp_path / "home"))
    change(monkeypatch, "fashion-mnist", images={"train": 5, "test": 2}, package=None)
    change(monkeypatch, "cifar10", images={"train": 20, "test": 4})
    return tmp_path / "home"


def fashion_files(folder: Path) -> np.ndarray:
    images = np.random.default_rng(0).integers(0, 256, (5, 28, 28))
    for stem, count in (("train", 5), ("t10k", 2)):
        idx(folder / f"{stem}-images-idx3-ubyte.gz", images[:count])
        idx(folder / f"{stem}-labels-idx1-ubyte.gz", np.array([9, 0, 3, 1, 9])[:count])
    return images


def test_from_a_folder(tmp_path, data):
    images = fashion_files(tmp_path / "files")
    lines: list[str] = []
    fetched = fetch.get("fashion-mnist", source=tmp_path / "files", say=lines.append)
    assert [(split.split, split.samples) for split in fetched] == [("train", 5), ("test", 2)]
    beton = Beton.open(home.resolve("fashion-mnist"))
    assert beton.class_names[9] == "Ankle boot"
    assert beton.labels.tolist() == [9, 0, 3, 1, 9]
    assert beton.channels == 1
    assert np.array_equal(beton.image(4)[:, :, 1], images[4])
    assert home.resolve("fashion-mnist", "val") == data / "fashion-mnist" / "test.beton"
    assert any("packing 5 images" in line for line in lines)


def test_it_is_idempotent_and_fills_gaps(tmp_path, data, monkeypatch):
    fashion_files(tmp_path / "files")
    first = fetch.get("fashion-mnist", source=tmp_path / "files")
    stamp = (data / "fashion-mnist" / "train.beton").stat().st_mtime_ns
    lines: list[str] = []
    again = fetch.get("fashion-mnist", say=lines.append)  # needs no source any more
    assert lines == [f"fashion-mnist is already in {data / 'fashion-mnist'}"]
    assert [split.content_hash for split in again] == [split.content_hash for split in first]
    assert all(split.report is None for split in again)
    (data / "fashion-mnist" / "test.beton").unlink()
    filled = fetch.get("fashion-mnist", source=tmp_path / "files")
    assert [split.report is None for split in filled] == [True, False]
    assert (data / "fashion-mnist" / "train.beton").stat().st_mtime_ns == stamp
    forced = fetch.get("fashion-mnist", source=tmp_path / "files", overwrite=True)
    assert not any(split.report is None for split in forced)


def test_from_the_debian_package(tmp_path, monkeypatch):
    fashion_files(tmp_path / "package")
    change(monkeypatch, "fashion-mnist", package=("dataset-fashion-mnist", tmp_path / "package"))
    lines: list[str] = []
    assert len(fetch.get("fashion-mnist", say=lines.append)) == 2
    assert "Debian's package dataset-fashion-mnist" in lines[0]


def test_cifar_from_torchvisions_folder(tmp_path):
    cifar10(tmp_path / "cifar-10-batches-py")
    assert [split.samples for split in fetch.get("cifar10", source=tmp_path)] == [20, 4]
    assert Beton.open(home.resolve("cifar10")).class_names[3] == "c3"


def test_another_data_sets_folder_is_refused_before_anything_is_written(tmp_path, data):
    fashion_files(tmp_path / "files")
    with pytest.raises(UserError, match="is not cifar10: found 5 images in IDX files in the train split"):
        fetch.get("cifar10", source=tmp_path / "files")
    idx(tmp_path / "files" / "t10k-images-idx3-ubyte.gz", np.zeros((3, 28, 28)))
    idx(tmp_path / "files" / "t10k-labels-idx1-ubyte.gz", np.zeros(3))
    with pytest.raises(UserError, match="found 3 images in IDX files in the test split"):
        fetch.get("fashion-mnist", source=tmp_path / "files")
    assert not data.exists()
    with pytest.raises(UserError, match="does not exist"):
        fetch.get("fashion-mnist", source=tmp_path / "none")


def test_a_download_is_packed_and_dropped(tmp_path, data, monkeypatch, capsys):
    def download(root: Path) -> None:
        print("torchvision prints")
        fashion_files(root / "FashionMNIST" / "raw")

    change(monkeypatch, "fashion-mnist", torchvision=download)
    assert len(fetch.get("fashion-mnist")) == 2
    assert [path.name for path in data.iterdir()] == ["fashion-mnist"]
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("program", ["/usr/bin/apt-get", None])
def test_a_failed_download_says_what_was_tried(tmp_path, data, monkeypatch, program):
    monkeypatch.setattr(fetch.shutil, "which", lambda name: program)

    def no_network(*_, **__):
        raise OSError("no route to host")

    monkeypatch.setattr(torchvision.datasets.mnist, "download_and_extract_archive", no_network)
    change(monkeypatch, "fashion-mnist", package=("dataset-fashion-mnist", tmp_path / "absent"))
    with pytest.raises(UserError) as caught:
        fetch.get("fashion-mnist")
    assert f"looked for {tmp_path / 'absent'}" in caught.value.message
    assert "no route to host" in caught.value.message
    package = ["apt-get install dataset-fashion-mnist"] if program else []  # no advice where there is no apt-get
    again = "bring its files in another way, then: `barlowctl data get fashion-mnist --from FOLDER`"
    assert caught.value.next.splitlines() == [*package, again]
    assert list(data.iterdir()) == []


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "stl10", "imagenette"])
def test_every_download_reaches_torchvision(name, monkeypatch):
    class_name = {"cifar10": "CIFAR10", "cifar100": "CIFAR100", "stl10": "STL10", "imagenette": "Imagenette"}[name]

    def arrived(root, *, download):
        assert download
        raise RuntimeError("arrived")

    monkeypatch.setattr(torchvision.datasets, class_name, arrived)
    with pytest.raises(UserError, match="arrived") as caught:
        fetch.get(name)
    assert caught.value.next.startswith(
        f"bring its files in another way, then: `barlowctl data get {name} --from FOLDER`"
    )


def test_unknown_names(data):
    with pytest.raises(UserError, match="did you mean 'cifar10'"):
        fetch.get("cifar-10")
    with pytest.raises(UserError, match="cannot be fetched") as caught:
        fetch.get("imagenet")
    assert caught.value.next == "bring its files, then: `barlowctl data pack FOLDER imagenet`"


def test_malicious_pickle_writes_nothing(tmp_path, data):
    cifar10(tmp_path / "files")
    (tmp_path / "files" / "test_batch").write_bytes(pickle.dumps(Path))
    with pytest.raises(UserError, match="test_batch"):
        fetch.get("cifar10", source=tmp_path / "files")
    assert not data.exists()
