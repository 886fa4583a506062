"""HDF5 files in folders, images in groups, files of one image each: splits, classes, and the pixels written."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from barlowctl.cli.app import run as barlowctl
from barlowctl.data.beton.reader import Beton
from barlowctl.data.images.numpy_array import read
from barlowctl.data.sources import open_source, other_splits
from barlowctl.data.sources.picture import Source
from barlowctl.data.sources.read_options import ReadOptions
from barlowctl.errors import UserError

h5py = pytest.importorskip("h5py")
RNG = np.random.default_rng(3)
UNKNOWN = "arrays that are neither images nor labels"


def pixels(count: int) -> np.ndarray:
    return RNG.integers(0, 256, (count, 12, 10, 3), dtype=np.uint8)


def write(path: Path, **datasets: Any) -> Path:
    """`__` parts the groups in a name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for name, values in datasets.items():
            file[name.replace("__", "/")] = values
    return path


def content(source: Source) -> dict[str, tuple[int, np.ndarray]]:
    """Name -> label and pixels, of 8 bits."""
    read = {}
    for index in range(len(source)):
        picture = source[index]
        assert isinstance(picture.data, np.ndarray)
        read[picture.name] = picture.label, picture.data
    return read


def same(read: dict[str, tuple[int, np.ndarray]], expected: dict[str, tuple[int, np.ndarray]]) -> bool:
    return list(read) == list(expected) and all(
        read[name][0] == label and np.array_equal(read[name][1], values) for name, (label, values) in expected.items()
    )


def test_folders_of_files_are_splits_and_classes(tmp_path: Path) -> None:
    made = {name: pixels(2) for name in ("train/a/1", "train/b/2", "train/b/3", "test/b/4")}
    for name, images in made.items():
        write(tmp_path / f"{name}.h5", imgs=images, coords=np.zeros((2, 2)))
    source = open_source(tmp_path)
    assert (source.class_names, other_splits(source, tmp_path)) == (["a", "b"], ["test"])
    expected = {
        f"{name}.h5/imgs[{row}]": (label, made[name][row])
        for name, label in (("train/a/1", 0), ("train/b/2", 1), ("train/b/3", 1))
        for row in range(2)
    }
    assert same(content(source), expected)
    assert source.scan_report.skipped[UNKNOWN].count == 4
    test = open_source(tmp_path, "test")
    assert test.class_names == ["a", "b"]
    assert same(content(test), {f"test/b/4.h5/imgs[{row}]": (1, made["test/b/4"][row]) for row in range(2)})
    with pytest.raises(UserError, match="has no unlabelled split"):
        open_source(tmp_path, "unlabelled")


def test_labels_in_files_come_before_folders(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write(tmp_path / name / "1.h5", images=pixels(2), labels=np.array([1, 0]))
    source = open_source(tmp_path)
    assert (source.class_names, [source.describe(index)[1] for index in range(4)]) == (["0", "1"], [1, 0, 1, 0])
    assert "labels are those in the files, and no folder is a class" in source.scan_report.notes


def test_labels_beside_images_in_split_folders(tmp_path: Path) -> None:
    made = {split: pixels(3) for split in ("train", "val")}
    for split, images in made.items():
        write(tmp_path / "all" / split / "set_x.h5", x=images)
        write(tmp_path / "all" / split / "set_y.h5", y=np.array([0, 0, 1] if split == "train" else [1, 0, 0]))
    source = open_source(tmp_path, "val")
    assert (source.class_names, [source.describe(index)[1] for index in range(3)]) == (["0", "1"], [1, 0, 0])
    assert np.array_equal(source[2].data, made["val"][2])
    assert source.describe(0)[0] == "all/val/set_x.h5/x[0]"


def test_images_in_groups_of_a_file(tmp_path: Path) -> None:
    made = {name: pixels(2) for name in ("train/cat", "train/dog", "val/dog")}
    groups = {f"{name}/images".replace("/", "__"): images for name, images in made.items()}
    path = write(tmp_path / "all.h5", **groups, train__cat__boxes=np.zeros(3))
    source = open_source(path)
    assert source.class_names == ["cat", "dog"]
    names = ("train/cat", "train/dog")
    expected = {
        f"{name}/images[{row}]": (label, made[name][row]) for label, name in enumerate(names) for row in range(2)
    }
    assert same(content(source), expected)
    assert source.scan_report.skipped[UNKNOWN].examples == ["train/cat/boxes"]
    assert same(
        content(open_source(path, "val")), {f"val/dog/images[{row}]": (1, made["val/dog"][row]) for row in (0, 1)}
    )


def test_stacks_of_grey_images_in_groups(tmp_path: Path) -> None:
    """Called so in the plural; an array that is called `image` is one, of bands."""
    stacks = {name: RNG.integers(0, 256, (9, 12, 10), dtype=np.uint8) for name in ("a", "b")}
    path = write(tmp_path / "all.h5", **{f"{name}__imgs": values for name, values in stacks.items()})
    assert same(
        content(open_source(path)),
        {f"{name}/imgs[{row}]": ("ab".index(name), stacks[name][row]) for name in "ab" for row in range(9)},
    )
    path = write(tmp_path / "bands.h5", **{f"{name}__image": values for name, values in stacks.items()})
    assert [open_source(path).describe(index)[0] for index in range(2)] == ["a/image", "b/image"]


def test_groups_with_labels_are_no_classes(tmp_path: Path) -> None:
    made = {f"slide_{number}": pixels(2) for number in range(3)}
    datasets = {f"{name}__imgs": images for name, images in made.items()}
    path = write(tmp_path / "slides.h5", **datasets, **{f"{name}__labels": np.array([0, 1]) for name in made})
    source = open_source(path)
    assert source.class_names == ["0", "1"]
    expected = {f"{name}/imgs[{row}]": (row, made[name][row]) for name in made for row in range(2)}
    assert same(content(source), expected)
    chosen = open_source(path, options=ReadOptions(image_column="imgs", label_column="none"))
    assert (len(chosen), chosen.class_names) == (6, ["slide_0", "slide_1", "slide_2"])
    with pytest.raises(UserError, match="--label-column is 'kinds'"):
        open_source(path, options=ReadOptions(image_column="imgs", label_column="kinds"))


def test_files_of_one_image_each(tmp_path: Path) -> None:
    """As BraTS's slices: an image, its mask, and a label of its own."""
    made = [RNG.random((16, 16, 4)) for _ in range(4)]
    for number, image in enumerate(made):
        write(tmp_path / f"volume_1_slice_{number}.h5", image=image, mask=np.zeros((16, 16, 3)), label=number % 2)
    source = open_source(tmp_path)
    assert (len(source), source.class_names) == (4, ["0", "1"])
    assert [source.describe(index) for index in (0, 3)] == [
        ("volume_1_slice_0.h5/image[0]", 0), ("volume_1_slice_3.h5/image[0]", 1),
    ]  # fmt: skip
    assert source.scan_report.skipped[UNKNOWN].count == 4
    copied = pickle.loads(pickle.dumps(source))  # for a worker process
    held = ReadOptions(hold_out=50)
    assert len(open_source(tmp_path, "test", held)) == 2
    for index, image in enumerate(made):
        data = copied[index].data
        assert isinstance(data, bytes)
        parts = read(data, (1, 2, 3, 4))
        assert parts is not None
        assert np.array_equal(parts.values.values, image)  # type: ignore[union-attr]


def test_files_directly_in_a_folder_are_read_and_those_below_counted(tmp_path: Path) -> None:
    write(tmp_path / "slide.h5", imgs=pixels(2))
    write(tmp_path / "features" / "slide.h5", features=np.zeros((2, 8)))
    source = open_source(tmp_path)
    assert len(source) == 2
    assert source.scan_report.skipped["HDF5 files in folders below"].examples == ["features/slide.h5"]
    write(tmp_path / "slide.h5", coords=np.zeros((2, 2)))
    write(tmp_path / "tiles" / "slide.h5", imgs=pixels(3))
    below = open_source(tmp_path)
    assert len(below) == 3
    assert below.scan_report.skipped[UNKNOWN].examples == ["features/slide.h5/features", "slide.h5/coords"]


@pytest.mark.parametrize("inner", [None, "inner"])
def test_the_folders_that_files_lie_in_may_be_the_classes(tmp_path: Path, inner: Any) -> None:
    for name in ("site1/tumour", "site1/normal", "site2/tumour"):
        write(tmp_path / name / "1.h5", imgs=pixels(1))
    source = open_source(tmp_path, options=ReadOptions(class_folders=inner))
    assert source.class_names == (["normal", "tumour"] if inner else ["site1", "site2"])


def test_weights_of_a_network_in_groups_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "net.h5", conv1__W=np.zeros((3, 3, 16, 32)), conv2__W=np.zeros((3, 3, 32, 32)))
    with pytest.raises(UserError, match="has no array that is known for images"):
        open_source(path)


def test_packed_pixels_are_those_that_were_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    made = {name: pixels(3) for name in ("a", "b")}
    for name, images in made.items():
        write(tmp_path / "in" / name / "1.h5", imgs=images)
    assert barlowctl(["data", "pack", "in", "./x.beton", "--quiet"]) == 0
    packed = Beton.open("x.beton")
    assert packed.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert all(np.array_equal(packed.image(index), made["ab"[index // 3]][index % 3]) for index in range(6))
