"""Data sets in NumPy's arrays: archives, files of many images, folders of arrays that are images."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from barlowctl import memory
from barlowctl.cli.app import run as barlowctl
from barlowctl.data.beton.reader import Beton
from barlowctl.data.sources import open_source, other_splits
from barlowctl.errors import UserError

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (12, 10, 8), dtype=np.uint8)
COLOURS = RNG.integers(0, 256, (12, 10, 8, 3), dtype=np.uint8)
NUMBERS = np.arange(12) % 3
SAVES = [np.savez, np.savez_compressed]


def labels(source: Any) -> list[int]:
    return [source.describe(at)[1] for at in range(len(source))]


@pytest.mark.parametrize("save", SAVES)
def test_medmnist(tmp_path: Path, save: Callable[..., None]) -> None:
    save(
        tmp_path / "pathmnist.npz",
        train_images=COLOURS[:6],
        train_labels=NUMBERS[:6, None],
        val_images=COLOURS[6:8],
        val_labels=NUMBERS[6:8, None],
        test_images=COLOURS[8:],
        test_labels=NUMBERS[8:, None],
    )
    for split, start, end in (("train", 0, 6), ("val", 6, 8), ("test", 8, 12)):
        source = open_source(tmp_path / "pathmnist.npz", split)
        assert len(source) == end - start
        assert labels(source) == NUMBERS[start:end].tolist()
        assert source.class_names == ["0", "1", "2"]
        assert source.describe(1)[0] == f"{split}_images[1]"
        assert all(np.array_equal(source[at].data, COLOURS[start + at]) for at in range(len(source)))
        assert source.scan_report.as_dict() == {"passed_over": {}, "notes": []}
    assert other_splits(open_source(tmp_path / "pathmnist.npz"), tmp_path / "pathmnist.npz") == ["val", "test"]
    with pytest.raises(UserError, match="has no unlabelled split") as caught:
        open_source(tmp_path / "pathmnist.npz", "unlabelled")
    assert caught.value.next == "--split train\n--split val\n--split test"


@pytest.mark.parametrize(
    "arrays",
    [
        {"x_train": IMAGES, "y_train": NUMBERS},
        {"X": IMAGES, "y": NUMBERS},
        {"images": IMAGES, "labels": NUMBERS.astype(np.float32)},
        {"trainImages": IMAGES, "trainLabels": NUMBERS},
        {"train_data": IMAGES, "train_targets": NUMBERS},
        {"arr_0": IMAGES, "arr_1": NUMBERS},
        {"scans": IMAGES, "labels": np.eye(3, dtype=int)[NUMBERS]},
        {"images": IMAGES, "labels": NUMBERS, "masks": IMAGES > 3, "subjects": NUMBERS},
    ],
)
def test_names_say_which_are_images_and_labels(tmp_path: Path, arrays: dict[str, np.ndarray]) -> None:
    np.savez(tmp_path / "x.npz", **arrays)
    source = open_source(tmp_path / "x.npz")
    assert np.array_equal(source[11].data, IMAGES[11])
    assert labels(source) == NUMBERS.tolist()
    passed_over = source.scan_report.as_dict()["passed_over"]
    if "masks" in arrays:
        assert passed_over["arrays that are neither images nor labels"]["examples"] == ["masks", "subjects"]
    else:
        assert passed_over == {}


@pytest.mark.parametrize("save", SAVES)
@pytest.mark.parametrize(
    "arrays",
    [
        {"features": RNG.random((12, 40)), "names": np.array(["a.png"] * 12), "labels": NUMBERS},  # as `embed` writes
        {"features": RNG.random((12, 40))},
        {"images": np.array([{}] * 12, object)},
        {"one": NUMBERS, "two": NUMBERS},
    ],
)
def test_an_archive_without_images_says_what_it_has(
    tmp_path: Path, arrays: dict[str, np.ndarray], save: Callable[..., None]
) -> None:
    save(tmp_path / "x.npz", **arrays)
    with pytest.raises(UserError, match="has no array that is known for images") as caught:
        open_source(tmp_path / "x.npz")
    assert all(f"'{name}' ({' x '.join(map(str, of.shape))} " in caught.value.message for name, of in arrays.items())


def test_an_unnamed_array_that_is_not_as_long_holds_no_labels(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", IMAGES, NUMBERS[:5])
    source = open_source(tmp_path / "x.npz")
    assert (len(source), source.class_names) == (12, [])
    assert source.scan_report.as_dict()["passed_over"]["arrays that are neither images nor labels"]["count"] == 1


@pytest.mark.parametrize("save", SAVES)
def test_arrays_whose_columns_come_first_in_the_file(tmp_path: Path, save: Callable[..., None]) -> None:
    save(tmp_path / "x.npz", images=np.asfortranarray(IMAGES))
    np.save(tmp_path / "x.npy", np.asfortranarray(IMAGES))
    for name in ("x.npz", "x.npy"):
        source = open_source(tmp_path / name)
        assert all(np.array_equal(source[at].data, IMAGES[at]) for at in range(12))


def test_words_are_numbered_as_those_of_the_training_split(tmp_path: Path) -> None:
    words = np.array(["b", "a", "c", "a"])
    np.savez(
        tmp_path / "x.npz",
        train_images=IMAGES[:4], train_labels=words, test_images=IMAGES[4:5], test_labels=words[2:3].astype("S1"),
    )  # fmt: skip
    assert labels(open_source(tmp_path / "x.npz")) == [1, 0, 2, 0]
    test = open_source(tmp_path / "x.npz", "test")
    assert (labels(test), test.class_names) == ([2], ["a", "b", "c"])


@pytest.mark.parametrize(
    ("values", "note"),
    [
        (np.ones((12, 3), int), "several labels an image"),
        (NUMBERS / 2, "numbers with fractions"),
        (np.array([{}] * 12, object), "Python objects, which are not loaded"),
    ],
)
def test_labels_that_are_no_classes_are_said(tmp_path: Path, values: np.ndarray, note: str) -> None:
    np.savez(tmp_path / "x.npz", images=IMAGES, labels=values)
    source = open_source(tmp_path / "x.npz")
    assert (source.class_names, set(labels(source))) == ([], {-1})
    assert note in "".join(source.scan_report.notes)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"images": IMAGES, "labels": NUMBERS[:5]}, "5 labels in 'labels', and 12 images"),
        ({"images": IMAGES, "x": IMAGES}, r"'images' \(.*\) and 'x' \(.*\) may be the same"),
        ({"images": IMAGES[:0]}, "'images' holds no images"),
    ],
)
def test_what_is_refused(tmp_path: Path, arrays: dict[str, np.ndarray], message: str) -> None:
    np.savez(tmp_path / "x.npz", **arrays)
    with pytest.raises(UserError, match=message):
        open_source(tmp_path / "x.npz")


@pytest.mark.parametrize("save", SAVES)
@pytest.mark.parametrize("cut", [200, 900])
def test_a_damaged_archive(tmp_path: Path, save: Callable[..., None], cut: int) -> None:
    save(tmp_path / "x.npz", images=IMAGES)
    content = bytearray((tmp_path / "x.npz").read_bytes())
    content[cut:-100] = b"\xff" * len(content[cut:-100])
    (tmp_path / "x.npz").write_bytes(content[: 300 if save is np.savez else None])
    with pytest.raises(UserError, match=r"x\.npz"):
        open_source(tmp_path / "x.npz")


def test_compressed_arrays_beyond_the_memory_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez_compressed(tmp_path / "x.npz", images=IMAGES)
    np.savez(tmp_path / "as it is.npz", images=IMAGES)
    monkeypatch.setattr(memory, "available", lambda: 1000)
    with pytest.raises(UserError, match="is compressed and takes") as caught:
        open_source(tmp_path / "x.npz")
    assert f"zipfile -e {tmp_path}/x.npz {tmp_path}/x && barlowctl data pack {tmp_path}/x" in (caught.value.next or "")
    assert isinstance(open_source(tmp_path / "as it is.npz")._rows[0], np.memmap)  # type: ignore[attr-defined]


def test_a_file_of_many_images_or_of_one(tmp_path: Path) -> None:
    for values, count in ((IMAGES, 12), (COLOURS, 12), (COLOURS[0], 1), (IMAGES[0], 1), (IMAGES[..., None], 12)):
        np.save(tmp_path / "x.npy", values)
        assert len(open_source(tmp_path / "x.npy")) == count
    (tmp_path / "x.npy").write_bytes((tmp_path / "x.npy").read_bytes()[:-1])
    with pytest.raises(UserError, match="cut short"):
        open_source(tmp_path / "x.npy")


@pytest.mark.parametrize("save", SAVES)
def test_an_archive_with_other_bytes_than_its_checksum_is_refused(tmp_path: Path, save: Callable[..., None]) -> None:
    images = RNG.integers(0, 256, (3, 200, 200), dtype=np.uint8)
    save(tmp_path / "x.npz", images=images)
    assert np.array_equal(open_source(tmp_path / "x.npz")[2].data, images[2])
    content = bytearray((tmp_path / "x.npz").read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "x.npz").write_bytes(content)
    with pytest.raises(UserError, match=r"x\.npz cannot be read: Bad CRC-32"):
        open_source(tmp_path / "x.npz")


def test_a_damaged_header_is_named(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", IMAGES)
    content = (tmp_path / "x.npy").read_bytes()
    (tmp_path / "x.npy").write_bytes(content.replace(b"}", b"{", 1))
    with pytest.raises(UserError, match=r"x\.npy cannot be read: its header is damaged"):
        open_source(tmp_path / "x.npy")


def test_a_folder_of_named_arrays(tmp_path: Path) -> None:
    for name, values in {
        "train_images": IMAGES[:8], "train_labels": NUMBERS[:8], "test_images": IMAGES[8:], "test_labels": NUMBERS[8:],
        "train_masks": IMAGES[:8],
    }.items():  # fmt: skip
        np.save(tmp_path / f"{name}.npy", values)
    Image.fromarray(IMAGES[0]).save(tmp_path / "sheet.png")
    source = open_source(tmp_path)
    assert (len(source), labels(source)) == (8, NUMBERS[:8].tolist())
    assert np.array_equal(source[7].data, IMAGES[7])
    passed_over = source.scan_report.as_dict()["passed_over"]
    assert {kind: skipped["examples"] for kind, skipped in passed_over.items()} == {
        "NumPy arrays": ["train_masks.npy"], "images beside arrays": ["sheet.png"],
    }  # fmt: skip
    assert labels(open_source(tmp_path, "test")) == NUMBERS[8:].tolist()
    assert len(open_source(tmp_path, "val")) == 4  # for want of another


def tiles(folder: Path) -> np.ndarray:
    values = RNG.integers(0, 3000, (6, 5, 10, 12), dtype=np.uint16)
    for at, tile in enumerate(values):
        file = folder / ("train" if at < 4 else "test") / "ab"[at % 2] / f"{at}.npy"
        file.parent.mkdir(parents=True, exist_ok=True)
        np.save(file, tile)
    return values


def test_a_folder_of_arrays_that_are_images(tmp_path: Path) -> None:
    tiles(tmp_path)
    source = open_source(tmp_path)
    assert [source.describe(at) for at in range(4)] == [
        ("train/a/0.npy", 0), ("train/a/2.npy", 0), ("train/b/1.npy", 1), ("train/b/3.npy", 1),
    ]  # fmt: skip
    assert source[0].data == (tmp_path / "train/a/0.npy").read_bytes()
    assert labels(open_source(tmp_path, "test")) == [0, 1]
    assert "class folders" in source.kind


def test_arrays_beside_other_images_are_counted(tmp_path: Path) -> None:
    tiles(tmp_path)
    Image.fromarray(IMAGES[0]).save(tmp_path / "train/a/photo.png")
    source = open_source(tmp_path)
    assert [source.describe(at)[0] for at in range(len(source))] == ["a/photo.png"]
    assert source.scan_report.as_dict()["passed_over"]["NumPy arrays"]["count"] >= 2


def test_a_table_beside_arrays_labels_them(tmp_path: Path) -> None:
    for at in range(3):
        np.save(tmp_path / f"{at}.npy", IMAGES[at])
    (tmp_path / "labels.csv").write_text("file_name,label\n0.npy,fox\n1.npy,hare\n2.npy,fox\n")
    source = open_source(tmp_path)
    assert (labels(source), source.class_names) == ([0, 1, 0], ["fox", "hare"])


def test_a_zip_of_arrays_is_read_as_their_folder(tmp_path: Path) -> None:
    tiles(tmp_path / "tiles")
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        for file in sorted((tmp_path / "tiles").rglob("*.npy")):
            archive.write(file, file.relative_to(tmp_path / "tiles"))
    folder, archived = open_source(tmp_path / "tiles", "test"), open_source(tmp_path / "x.zip", "test")
    assert labels(archived) == labels(folder) == [0, 1]
    assert archived[1].data == folder[1].data


def test_packed_bands_of_arrays(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    values = tiles(tmp_path / "tiles")
    words = ["data", "pack", str(tmp_path / "tiles"), str(tmp_path / "x.beton"), "--quiet"]
    assert barlowctl(words) == 2
    assert f"next: barlowctl {' '.join(words[:3])} {words[3]} --quiet --bands 4,3,2" in capsys.readouterr().err
    assert barlowctl([*words, "--bands", "1-5", "--range", "0:3000"]) == 0
    packed = Beton.open(tmp_path / "x.beton")
    expected = np.floor(values[2].transpose(1, 2, 0) * 255.0 / 3000 + 0.5)
    assert np.array_equal(packed.image(1), expected)  # a/0, a/2, b/1, b/3
