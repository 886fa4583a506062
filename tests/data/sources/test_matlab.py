"""MATLAB files of version 7.3, written as MATLAB writes them: images, labels, text, cells, with their axes as there."""

from __future__ import annotations

import io
import pickle
from pathlib import Path

import numpy as np
import pytest

from barlowctl.cli.app import run as barlowctl
from barlowctl.data.beton.reader import Beton
from barlowctl.data.images.numpy_array import read
from barlowctl.data.images.pixels import decode_picture
from barlowctl.data.sources import open_source
from barlowctl.data.sources.picture import Source
from barlowctl.errors import UserError
from tests.data.matlab_files import Cell, save

pytest.importorskip("h5py")
RNG = np.random.default_rng(5)
UNKNOWN = "arrays that are neither images nor labels"
Captured = pytest.CaptureFixture[str]


def images(*shape: int) -> np.ndarray:
    return RNG.integers(0, 256, shape, dtype=np.uint8)


def labels(source: Source) -> list[int]:
    return [source.describe(index)[1] for index in range(len(source))]


def assert_same(source: Source, expected: list[np.ndarray]) -> None:
    assert len(source) == len(expected)
    for other in (source, pickle.loads(pickle.dumps(source))):  # and in a worker process
        for index in (*range(len(expected)), 0):
            pixels = other[index].data
            assert isinstance(pixels, np.ndarray)
            assert np.array_equal(pixels, expected[index])


def test_images_of_colours_that_the_last_axis_counts(tmp_path: Path) -> None:
    """As NYU Depth's `images`, 480 x 640 x 3 x 1449, beside maps that are called labels."""
    stack = images(14, 11, 3, 7)
    others = {"labels": images(14, 11, 7), "names": Cell(["bed", "chair"]), "accel": np.eye(4)}
    path = save(tmp_path / "nyu.mat", images=stack, **others)
    source = open_source(path)
    assert_same(source, [stack[..., number] for number in range(7)])
    assert source.describe(2) == ("images[2]", -1)
    assert source.scan_report.skipped[UNKNOWN].examples == ["accel", "labels", "names"]
    assert source.in_chunks == 3


@pytest.mark.parametrize("column", [True, False])
def test_grey_images_with_labels(tmp_path: Path, column: bool) -> None:
    stack, numbers = images(14, 11, 6), np.array([0, 1, 2, 2, 1, 0.0])
    path = save(tmp_path / "set.mat", X=stack, y=numbers[:, None] if column else numbers)
    source = open_source(path)
    assert_same(source, [stack[..., number] for number in range(6)])
    assert (labels(source), source.class_names) == ([0, 1, 2, 2, 1, 0], ["0", "1", "2"])


def test_images_that_the_first_axis_counts(tmp_path: Path) -> None:
    """As programs in Python write them: by their colours at the end, or by as many labels."""
    stack = images(8, 14, 11, 3)
    assert_same(open_source(save(tmp_path / "a.mat", data=stack)), list(stack))
    assert_same(open_source(save(tmp_path / "b.mat", data=stack, labels=np.arange(8) % 2)), list(stack))
    grey = images(8, 14, 11)
    assert_same(open_source(save(tmp_path / "c.mat", data=grey, labels=np.arange(8) % 2)), list(grey))
    assert_same(open_source(save(tmp_path / "d.mat", data=grey)), [grey[..., number] for number in range(11)])


def test_text_and_cells_of_text_are_labels(tmp_path: Path) -> None:
    stack = images(14, 11, 3, 4)
    source = open_source(
        save(tmp_path / "x.mat", images=stack, labels=Cell(["dog", "cat", "cat", "dog"]), note="hello")
    )
    assert (labels(source), source.class_names) == ([1, 0, 0, 1], ["cat", "dog"])
    assert source.scan_report.skipped[UNKNOWN].examples == ["note"]


def test_cells_of_images_have_sizes_of_their_own(tmp_path: Path) -> None:
    cells = [images(14, 11, 3), images(9, 16, 3), images(20, 8, 3)]
    source = open_source(save(tmp_path / "x.mat", imgs=Cell(cells), labels=np.array([[1], [0], [1]])))
    assert_same(source, cells)
    assert labels(source) == [1, 0, 1]


def test_a_folder_of_structs_with_an_image_each(tmp_path: Path) -> None:
    """As the brain tumours of Cheng et al. (figshare 1512427): `cjdata` with image, label, mask and border."""
    made = [RNG.integers(-200, 1200, (16, 12)).astype(np.int16) for _ in range(3)]
    for number, image in enumerate(made):
        save(
            tmp_path / f"{number}.mat", cjdata__image=image, cjdata__label=float(number % 2), cjdata__PID="MR01",
            cjdata__tumorMask=image > 500, cjdata__tumorBorder=np.arange(9.0),
        )  # fmt: skip
    source = open_source(tmp_path)
    assert (len(source), labels(source), source.class_names) == (3, [0, 1, 0], ["0", "1"])
    assert source.describe(1)[0] == "1.mat/cjdata/image[0]"
    for index, image in enumerate(made):
        data = source[index].data
        assert isinstance(data, bytes)
        parts = read(data, ())
        assert parts is not None
        assert np.array_equal(parts.values.values, image)  # type: ignore[union-attr]
    assert source.scan_report.skipped[UNKNOWN].count == 9


def test_logical_images_are_black_and_white(tmp_path: Path) -> None:
    stack = images(14, 11, 5) > 100
    data = open_source(save(tmp_path / "x.mat", images=stack))[3].data
    assert isinstance(data, bytes)
    assert np.array_equal(decode_picture(data).pixels, stack[..., 3] * 255)


def test_packed_pixels_are_those_that_were_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    stacks = {name: images(12, 10, 3, 4) for name in ("cat", "dog")}
    for name, stack in stacks.items():
        save(Path("in") / name / "1.mat", imgs=stack)
    assert barlowctl(["data", "pack", "in", "./x.beton", "--quiet"]) == 0
    packed = Beton.open("x.beton")
    assert packed.labels.tolist() == [0] * 4 + [1] * 4
    for index in range(8):
        assert np.array_equal(packed.image(index), stacks["cat" if index < 4 else "dog"][..., index % 4])


@pytest.mark.parametrize("kind", ["categorical", "string"])
def test_labels_that_only_matlab_reads_are_refused_with_what_to_do(tmp_path: Path, kind: str) -> None:
    """MATLAB writes an object as six numbers that point into a table of its own; others than labels are passed over."""
    import h5py

    path = save(tmp_path / "set.mat", images=images(12, 10, 3, 4))

    def add(name: str) -> None:
        with h5py.File(path, "a") as file:
            item = file.create_dataset(name, data=np.array([[3707764736, 2, 1, 1, 1, 2]], np.uint32))
            item.attrs.update({"MATLAB_class": np.bytes_(kind), "MATLAB_object_decode": np.int32(3)})

    add("camera")
    assert len(open_source(path)) == 4
    add("labels")
    with pytest.raises(UserError, match=rf"^'labels' in .*set\.mat is {kind} of MATLAB, whose values only") as raised:
        open_source(path)
    assert raised.value.next == "in MATLAB, then save again: labels = cellstr(labels)"


def test_older_files_are_named_with_what_to_do(tmp_path: Path, capsys: Captured) -> None:
    older = b"MATLAB 5.0 MAT-file, Platform: GLNXA64".ljust(124) + b"\0\1IM" + bytes(64)
    (tmp_path / "old.mat").write_bytes(older)
    with pytest.raises(UserError, match=r"its content is that of MATLAB files before version 7\.3") as raised:
        open_source(tmp_path / "old.mat")
    assert raised.value.next == "save one so that it is read: save('FILE.mat', '-v7.3')"
    save(tmp_path / "new.mat", images=images(12, 10, 3, 4))
    source = open_source(tmp_path)
    assert len(source) == 4
    assert source.scan_report.skipped["MATLAB files before version 7.3"].examples == ["old.mat"]


@pytest.mark.parametrize("kind", [np.float64, np.uint8])
def test_labels_that_begin_at_one_have_no_class_zero(tmp_path: Path, kind: type[np.generic]) -> None:
    numbers = np.array([[1], [3], [2], [3]], kind)
    source = open_source(save(tmp_path / "a.mat", images=images(9, 8, 3, 4), labels=numbers))
    assert (labels(source), source.class_names) == ([0, 2, 1, 2], ["1", "2", "3"])
    zero = open_source(save(tmp_path / "b.mat", images=images(9, 8, 3, 4), labels=numbers - 1))
    assert (labels(zero), zero.class_names) == ([0, 2, 1, 2], ["0", "1", "2"])


def test_splits_of_labels_that_begin_at_one_have_the_same_classes(tmp_path: Path) -> None:
    parts = {"train_images": images(9, 8, 3, 4), "train_labels": np.array([[1.0], [2.0], [3.0], [1.0]])}
    parts |= {"test_images": images(9, 8, 3, 2), "test_labels": np.array([[3.0], [2.0]])}
    path = save(tmp_path / "a.mat", **parts)
    test = open_source(path, "test")
    assert (labels(test), test.class_names) == ([2, 1], ["1", "2", "3"])
    assert labels(open_source(path)) == [0, 1, 2, 0]


def test_an_image_of_bands_is_one(tmp_path: Path) -> None:
    pixels = images(20, 18, 5)
    source = open_source(save(tmp_path / "a.mat", image=pixels))
    assert len(source) == 1
    data = source[0].data
    assert isinstance(data, bytes)
    assert np.array_equal(np.load(io.BytesIO(data)), pixels)
    assert len(open_source(save(tmp_path / "b.mat", images=pixels))) == 5
