"""Data sets in HDF5 files: PatchCamelyon, Galaxy10, groups, encoded images, damage; pixels as h5py has them."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import signal
import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from barlowctl.cli.app import run as barlowctl
from barlowctl.data.beton.reader import Beton
from barlowctl.data.images.conversion import Choices
from barlowctl.data.images.pixels import decode_picture
from barlowctl.data.loaders.plain import Pictures
from barlowctl.data.sources import hdf5_opened, open_source, other_splits
from barlowctl.data.sources.picture import Source
from barlowctl.data.sources.read_options import ReadOptions
from barlowctl.data.sources.sample import conversion_of
from barlowctl.errors import UserError

h5py = pytest.importorskip("h5py")
RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (12, 10, 8), dtype=np.uint8)
COLOURS = RNG.integers(0, 256, (12, 10, 8, 3), dtype=np.uint8)
NUMBERS = np.arange(12) % 3


def labels(source: Source) -> list[int]:
    return [source.describe(at)[1] for at in range(len(source))]


def write(path: Path, **datasets: Any) -> Path:
    """A file of datasets; of a tuple the second is how it is stored."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for name, values in datasets.items():
            values, how = values if isinstance(values, tuple) else (values, {})
            file.create_dataset(name.replace("__", "/"), data=values, **how)
    return path


def pcam(folder: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The published files, in small: two of each split, one of masks, tables."""
    content, chunks = {}, {"compression": "gzip", "chunks": (5, 4, 6, 1)}
    for split, count in (("train", 13), ("valid", 6), ("test", 7)):
        x, y = RNG.integers(0, 256, (count, 12, 12, 3), np.uint8), RNG.integers(0, 2, (count, 1, 1, 1), np.uint8)
        stem = folder / f"camelyonpatch_level_2_split_{split}"
        write(Path(f"{stem}_x.h5"), x=(x, chunks))
        write(Path(f"{stem}_y.h5"), y=y)
        Path(f"{stem}_meta.csv").write_text("wsi,center_tumor_patch\n")
        content[split] = x, y
    write(folder / "camelyonpatch_level_2_split_train_mask.h5", mask=content["train"][0][..., :1])
    return content


@pytest.mark.parametrize("inside", ["", "pcam"])  # where torchvision puts them
def test_patch_camelyon(tmp_path: Path, inside: str) -> None:
    content = pcam(tmp_path / inside)
    for split, called in (("train", "train"), ("val", "valid"), ("test", "test")):
        source, (x, y) = open_source(tmp_path, split), content[called]
        assert len(source) == len(x)
        assert labels(source) == y.ravel().tolist()
        assert source.class_names == ["0", "1"]
        assert source.describe(1)[0] == f"camelyonpatch_level_2_split_{called}_x.h5/x[1]"
        for at in [*range(len(x)), 0, len(x) - 1]:
            pixels = source[at].data
            assert isinstance(pixels, np.ndarray)
            assert np.array_equal(pixels, x[at])
        report = source.scan_report.as_dict()
        assert report["notes"] == [f"labels are those of camelyonpatch_level_2_split_{called}_y.h5"]
        assert report["passed_over"]["arrays that are neither images nor labels"]["examples"] == [
            "camelyonpatch_level_2_split_train_mask.h5/mask"
        ]
        assert report["passed_over"][".csv files"]["count"] == 3
    assert other_splits(open_source(tmp_path), tmp_path) == ["val", "test"]


def test_a_file_of_patch_camelyon_has_its_labels_from_the_file_beside_it(tmp_path: Path) -> None:
    x, y = pcam(tmp_path)["valid"]
    source = open_source(tmp_path / "camelyonpatch_level_2_split_valid_x.h5")
    assert labels(source) == y.ravel().tolist()
    assert source.describe(5)[0] == "x[5]"
    assert np.array_equal(source[5].data, x[5])
    (tmp_path / "camelyonpatch_level_2_split_valid_y.h5").unlink()
    assert open_source(tmp_path / "camelyonpatch_level_2_split_valid_x.h5").class_names == []


def test_galaxy10(tmp_path: Path) -> None:
    others = {name: RNG.random(12) for name in ("ra", "dec", "redshift", "pxscale")}
    write(tmp_path / "Galaxy10_DECals.h5", images=COLOURS, ans=NUMBERS.astype(np.uint8), **others)
    whole = open_source(tmp_path / "Galaxy10_DECals.h5")
    assert (labels(whole), len(whole.class_names)) == (NUMBERS.tolist(), 3)
    assert whole.scan_report.as_dict()["passed_over"]["arrays that are neither images nor labels"]["count"] == 4
    held = open_source(tmp_path / "Galaxy10_DECals.h5", "test", ReadOptions(hold_out=25))
    assert sorted(labels(held)) == [0, 1, 2]
    for at in range(3):
        row = int(held.describe(at)[0].removeprefix("images[").removesuffix("]"))
        assert np.array_equal(held[at].data, COLOURS[row])


@pytest.mark.parametrize(
    ("datasets", "class_names"),
    [
        ({"train__images": IMAGES[:8], "train__labels": NUMBERS[:8], "test__images": IMAGES[8:]}, ["0", "1", "2"]),
        ({"train_x": IMAGES[:8], "train_y": np.array(["b", "a"] * 4, "O"), "test_x": IMAGES[8:]}, ["a", "b"]),
        ({"X_train": IMAGES[:8], "X_test": IMAGES[8:], "Y_train": np.array([b"b", b"a"] * 4)}, ["a", "b"]),
        ({"X_train": IMAGES[:8], "X_test": IMAGES[8:], "Y_train": np.eye(2, dtype=bool)[[0, 1] * 4]}, ["0", "1"]),
    ],
)
def test_groups_and_names_say_splits(tmp_path: Path, datasets: dict[str, Any], class_names: list[str]) -> None:
    path = write(tmp_path / "x.hdf5", **datasets)
    train, test = open_source(path), open_source(path, "test")
    assert (len(train), len(test), train.class_names) == (8, 4, class_names)
    assert np.array_equal(test[3].data, IMAGES[11])
    with pytest.raises(UserError, match="has no unlabelled split") as caught:
        open_source(path, "unlabelled")
    assert caught.value.next == "--split train\n--split test"


@pytest.mark.parametrize("names", [("train_images.h5", "train_labels.h5"), ("X.hdf5", "Y.hdf5"), ("a-x.h5", "a-y.h5")])
def test_a_files_name_says_what_its_only_array_holds(tmp_path: Path, names: tuple[str, str]) -> None:
    write(tmp_path / names[0], dataset=IMAGES)
    write(tmp_path / names[1], data=NUMBERS)
    for path in (tmp_path, tmp_path / names[0]):
        assert labels(open_source(path)) == NUMBERS.tolist()


def test_files_of_several_slides_are_one_data_set(tmp_path: Path) -> None:
    for slide in range(20):
        write(tmp_path / f"slide_{slide:02}.h5", imgs=COLOURS[:2] + np.uint8(slide), coords=NUMBERS[:4].reshape(2, 2),
              label=np.array(["normal", "tumor"][slide % 2 :][:1] * 2, "O"))  # fmt: skip
    source = open_source(tmp_path)
    assert (len(source), source.class_names) == (40, ["normal", "tumor"])
    assert labels(source) == [slide % 2 for slide in range(20) for _ in range(2)]
    assert source.describe(27)[0] == "slide_13.h5/imgs[1]"
    assert all(np.array_equal(source[at].data, COLOURS[at % 2] + np.uint8(at // 2)) for at in range(40))
    passed_over = source.scan_report.as_dict()["passed_over"]["arrays that are neither images nor labels"]
    assert (passed_over["count"], passed_over["examples"][0]) == (20, "slide_00.h5/coords")
    held = open_source(tmp_path, "test", ReadOptions(hold_out=25, groups=r"slide_\d+"))
    slides = {held.describe(at)[0][:8] for at in range(len(held))}
    assert 2 <= len(slides) == len(held) / 2 < 10


def test_files_without_labels_beside_others_have_none(tmp_path: Path) -> None:
    write(tmp_path / "a.h5", images=IMAGES[:4], labels=NUMBERS[:4])
    write(tmp_path / "b.h5", images=IMAGES[4:6])
    write(tmp_path / "c.h5", images=IMAGES[6:8], labels=np.array([2, 0]))
    assert labels(open_source(tmp_path)) == [0, 1, 2, 0, -1, -1, 2, 0]


@pytest.mark.parametrize(
    "values",
    [
        RNG.integers(0, 4096, (12, 10, 8), dtype=np.uint16),
        RNG.integers(0, 4096, (12, 10, 8), dtype=np.uint16).astype(">u2"),
        RNG.random((12, 10, 8, 5)).astype(np.float32),
        RNG.random((12, 5, 10, 8)),
        RNG.random((12, 10, 8)).astype(np.float16),
        RNG.random((12, 10, 8)) > 0.5,
    ],
)
def test_values_become_pixels_as_those_of_numpys_arrays_do(tmp_path: Path, values: np.ndarray) -> None:
    write(tmp_path / "x.h5", images=(values, {"chunks": True, "compression": "gzip"}))
    np.savez(tmp_path / "x.npz", images=values)
    bands = (2, 1, 5) if values.ndim == 4 else ()
    decoded = []
    for name in ("x.h5", "x.npz"):
        source = open_source(tmp_path / name)
        conversion = conversion_of(source, Choices(bands=bands))
        data = source[7].data
        assert isinstance(data, bytes)
        decoded.append(decode_picture(data, conversion).pixels)
    top = {"u": 4095, "f": 1, "b": 1}[values.dtype.kind]
    own = np.moveaxis(values[7], 0, -1) if values.shape[1] == 5 else values[7]
    chosen = own[..., [1, 0, 4]] if bands else own
    expected = np.floor(chosen.astype(np.float64) * 255 / top + 0.5).astype(np.uint8)
    assert np.array_equal(decoded[0], expected)
    assert np.array_equal(decoded[1], expected)


def encoded(count: int) -> tuple[list[bytes], list[np.ndarray]]:
    files, pixels = [], []
    for at in range(count):
        stream = io.BytesIO()
        Image.fromarray(COLOURS[at]).save(stream, "PNG")
        files.append(stream.getvalue())
        pixels.append(COLOURS[at])
    return files, pixels


def test_encoded_images_in_an_array_of_bytes(tmp_path: Path) -> None:
    files, pixels = encoded(4)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        images = file.create_dataset("images", (4,), h5py.vlen_dtype(np.uint8))
        for at, data in enumerate(files):
            images[at] = np.frombuffer(data, np.uint8)
        file["labels"] = NUMBERS[:4]
    source = open_source(tmp_path / "x.h5")
    assert labels(source) == [0, 1, 2, 0]
    for at in range(4):
        assert source[at].data == files[at]
        assert np.array_equal(decode_picture(files[at]).pixels, pixels[at])


def test_arrays_that_are_an_image_each_have_their_groups_as_classes(tmp_path: Path) -> None:
    files, _ = encoded(4)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        for at in range(4):
            file[f"{'ab'[at % 2]}/{at}"] = IMAGES[at]
            file[f"{'ab'[at % 2]}/{at}.png"] = np.void(files[at])
            file[f"{'ab'[at % 2]}/{at}_bytes"] = np.frombuffer(files[at], np.uint8)
        file["when"] = NUMBERS
    source = open_source(tmp_path / "x.h5")
    assert (len(source), source.class_names) == (12, ["a", "b"])
    names = [source.describe(at)[0] for at in range(12)]
    assert names[:4] == ["a/0", "a/0.png", "a/0_bytes", "a/2"]
    assert labels(source) == [0] * 6 + [1] * 6
    assert np.array_equal(source[3].data, IMAGES[2])
    assert (source[1].data, source[2].data) == (files[0], files[0])
    assert source.scan_report.as_dict()["passed_over"]["arrays that are neither images nor labels"]["count"] == 1


WEIGHTS = {
    "model_weights__conv__kernel": RNG.random((3, 3, 3, 16)), "model_weights__conv__bias": RNG.random(16),
    "model_weights__dense__kernel": RNG.random((64, 10)),
}  # fmt: skip
TABLE = {"table": np.zeros(5, [("ra", "f8"), ("name", "S4")]), "more": np.zeros((5, 3))}


@pytest.mark.parametrize(
    "datasets",
    [WEIGHTS, TABLE, {"features": RNG.random((1, 30, 512)), "coords": NUMBERS.reshape(6, 2)}, {"kspace": IMAGES * 1j}],
)
@pytest.mark.parametrize("of_folder", [False, True])
def test_files_that_hold_no_images_are_refused_by_the_names_of_their_arrays(
    tmp_path: Path, datasets: dict[str, np.ndarray], of_folder: bool
) -> None:
    write(tmp_path / "x.h5", **datasets)
    with pytest.raises(UserError, match="has no array that is known for images") as caught:
        open_source(tmp_path if of_folder else tmp_path / "x.h5")
    for name, values in datasets.items():
        assert f"{name.replace('__', '/')}' ({' x '.join(map(str, values.shape))} " in caught.value.message


def test_of_several_arrays_of_images_one_is_chosen(tmp_path: Path) -> None:
    path = write(tmp_path / "x.h5", optical=COLOURS, infrared=IMAGES, kind=NUMBERS, mass=NUMBERS[::-1])
    with pytest.raises(UserError, match=r"no array that is known for images: 'infrared' .*'optical'") as caught:
        open_source(path)
    assert (caught.value.next or "").splitlines() == [
        f"barlowctl data pack {path} x.beton --image-column {name}" for name in ("infrared", "optical")
    ]
    source = open_source(path, options=ReadOptions(image_column="infrared", label_column="mass"))
    assert np.array_equal(source[2].data, IMAGES[2])
    assert labels(source) == NUMBERS[::-1].tolist()
    for flag, options in (
        ("--image-column is 'optcal', did you mean 'optical'?", ReadOptions(image_column="optcal")),
        ("--label-column is 'kinds'", ReadOptions(image_column="optical", label_column="kinds")),
    ):
        with pytest.raises(UserError) as caught:
            open_source(path, options=options)
        assert caught.value.message.startswith(flag)
    both = write(tmp_path / "both.h5", images=COLOURS, x=IMAGES, y=NUMBERS)
    with pytest.raises(UserError, match=r"'images' .*'x' .* may be the same") as caught:
        open_source(both)
    assert "--image-column images\n" in (caught.value.next or "")
    taken = open_source(both, options=ReadOptions(image_column="x", label_column="none"))
    assert (np.array_equal(taken[2].data, IMAGES[2]), taken.class_names) == (True, [])


def test_numpys_archives_have_the_same_choice(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", images=COLOURS, x=IMAGES, y=NUMBERS, other=NUMBERS[::-1])
    source = open_source(tmp_path / "x.npz", options=ReadOptions(image_column="x", label_column="other"))
    assert (np.array_equal(source[2].data, IMAGES[2]), labels(source)) == (True, NUMBERS[::-1].tolist())


def test_no_more_is_read_than_the_chunks_of_an_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = RNG.integers(0, 256, (40, 10, 8), dtype=np.uint8)
    path = write(tmp_path / "x.h5", images=(images, {"chunks": (7, 5, 4), "compression": "gzip"}))
    read: list[int] = []
    real = h5py.Dataset.__getitem__

    def counted(self: Any, key: Any, **options: Any) -> Any:
        values = real(self, key, **options)
        read.append(values.nbytes)
        return values

    monkeypatch.setattr(h5py.Dataset, "__getitem__", counted)
    source = open_source(path)
    read.clear()
    assert all(np.array_equal(source[at].data, images[at]) for at in range(40))
    assert sum(read) == images.nbytes  # each chunk once
    assert max(read) == 7 * 80
    read.clear()
    monkeypatch.setattr(hdf5_opened, "_BLOCK", 3 * 80)
    assert np.array_equal(open_source(path)[39].data, images[39])
    assert max(read) <= 3 * 80


def test_images_in_chunks_that_are_not_packed_are_said_to_be_slow(tmp_path: Path) -> None:
    for chunks, images in (((7, 5, 4), 7), ((1, 10, 8), 1), (None, 1)):
        folder = tmp_path / str(chunks)
        write(folder / "x.h5", images=(IMAGES, {"chunks": chunks}))
        source = open_source(folder)
        assert source.in_chunks == images
        assert source.scan_report.notes == []  # of `data pack`, which reads them in order
        notes = Pictures(source).scan_report.notes
        assert [note[:52] for note in notes] == ["parts of 7 images are unpacked to read one: training"] * (images > 1)


def test_rows_are_read_by_several_threads_and_processes(tmp_path: Path) -> None:
    images = RNG.integers(0, 256, (60, 10, 8), dtype=np.uint8)
    path = write(tmp_path / "x.h5", images=(images, {"chunks": (7, 5, 4), "compression": "gzip"}))
    source = open_source(path)
    assert np.array_equal(source[0].data, images[0])
    order = RNG.permutation(60).tolist()
    with ThreadPoolExecutor(4) as pool:
        read = pool.map(lambda at: source[at].data, order)
        assert all(np.array_equal(data, images[at]) for at, data in zip(order, read, strict=True))
    again = pickle.loads(pickle.dumps(source))
    assert np.array_equal(again[33].data, images[33])
    reading, done = threading.Event(), threading.Event()

    def read_on() -> None:
        with hdf5_opened._lock:
            reading.set()
            done.wait(60)

    thread = threading.Thread(target=read_on)
    thread.start()
    assert reading.wait(60)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of Python 3.12: a process of several threads is forked
        child = os.fork()
    if not child:
        signal.alarm(30)
        os._exit(0 if all(np.array_equal(source[at].data, images[at]) for at in order) else 1)
    status = os.waitpid(child, 0)[1]
    done.set()
    thread.join()
    assert status == 0


def test_a_file_written_anew_is_read_anew(tmp_path: Path) -> None:
    """As another process writes it: in its place, while it is open here."""
    contents = []
    for add in (0, 1):
        path = write(tmp_path / f"{add}.h5", images=(IMAGES + np.uint8(add), {"chunks": (5, 10, 8)}))
        contents.append(path.read_bytes())
    for add, content in enumerate(contents):
        (tmp_path / "x.h5").write_bytes(content)
        os.utime(tmp_path / "x.h5", ns=(add, add))
        assert np.array_equal(open_source(tmp_path / "x.h5")[3].data, IMAGES[3] + np.uint8(add))


def test_damaged_files_are_named(tmp_path: Path) -> None:
    path = write(tmp_path / "x.h5", images=(IMAGES, {"compression": "gzip", "chunks": (4, 10, 8)}), labels=NUMBERS)
    content = path.read_bytes()
    for cut in (12, 100, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:cut])
        with pytest.raises(UserError, match=r"x\.h5 cannot be read as an HDF5 file") as caught:
            open_source(path)
        assert caught.value.next == "copy it again"
    with h5py.File(tmp_path / "y.h5", "w") as file:
        images = file.create_dataset("images", data=IMAGES, compression="gzip", chunks=(4, 10, 8))
        place = images.id.get_chunk_info(1).byte_offset
    damaged = bytearray((tmp_path / "y.h5").read_bytes())
    damaged[place : place + 40] = b"\xff" * 40
    (tmp_path / "y.h5").write_bytes(damaged)
    source = open_source(tmp_path / "y.h5")
    assert np.array_equal(source[3].data, IMAGES[3])
    with pytest.raises(OSError, match="damaged in the HDF5 file"):
        source[5]


def test_arrays_whose_values_lie_in_files_that_are_not_there_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "part.h5", images=IMAGES)
    layout = h5py.VirtualLayout(IMAGES.shape, IMAGES.dtype)
    layout[...] = h5py.VirtualSource("part.h5", "images", IMAGES.shape)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_virtual_dataset("images", layout)
    assert np.array_equal(open_source(tmp_path / "x.h5")[3].data, IMAGES[3])
    (tmp_path / "part.h5").rename(tmp_path / "elsewhere.h5")
    with pytest.raises(UserError, match=r"values of 'images' lie in part\.h5, which is not there"):
        open_source(tmp_path / "x.h5")


def test_a_compression_whose_package_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "x.h5", images=(IMAGES, {"compression": "lzf", "chunks": (4, 10, 8)}))
    monkeypatch.setattr(h5py.h5z, "filter_avail", lambda code: False)
    monkeypatch.setitem(sys.modules, "hdf5plugin", None)
    with pytest.raises(UserError, match="'images' is compressed with lzf, which needs hdf5plugin") as caught:
        open_source(path)
    assert caught.value.next == "pip install hdf5plugin"


def test_without_h5py_it_is_said_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "x.h5", images=IMAGES)
    monkeypatch.setitem(sys.modules, "h5py", None)
    for place in (path, tmp_path):
        with pytest.raises(UserError, match="HDF5 files need the package h5py, which is not installed") as caught:
            open_source(place)
        assert caught.value.next == "pip install 'barlowctl[hdf5]'"


def test_a_compressed_file_is_refused_with_what_unpacks_it(tmp_path: Path) -> None:
    path = write(tmp_path / "train_x.h5", x=IMAGES)
    (tmp_path / "train_x.h5.gz").write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()
    with pytest.raises(UserError, match="is a compressed HDF5 file") as caught:
        open_source(tmp_path / "train_x.h5.gz")
    assert caught.value.next == f"gunzip {tmp_path}/train_x.h5.gz"
    with pytest.raises(UserError, match="compressed HDF5 files: 1"):
        open_source(tmp_path)


def test_image_files_beside_hdf5_files_are_what_is_read(tmp_path: Path) -> None:
    Image.fromarray(COLOURS[0]).save(tmp_path / "1.png")
    write(tmp_path / "model.h5", **WEIGHTS)
    source = open_source(tmp_path)
    assert len(source) == 1
    assert source.scan_report.as_dict()["passed_over"]["HDF5 files"]["examples"] == ["model.h5"]


def test_packed_pixels_are_those_that_h5py_reads(tmp_path: Path) -> None:
    content = pcam(tmp_path / "in")
    for split, called in (("train", "train"), ("val", "valid")):
        out = tmp_path / f"{split}.beton"
        assert barlowctl(["data", "pack", str(tmp_path / "in"), str(out), "--split", split, "--quiet"]) == 0
        packed, (x, y) = Beton.open(out), content[called]
        assert packed.num_samples == len(x)
        for at in range(len(x)):
            assert np.array_equal(np.frombuffer(packed.stored(at), np.uint8).reshape(x[at].shape), x[at])
            assert packed.labels[at] == y.ravel()[at]


@pytest.mark.parametrize(
    ("name", "shape", "images"),
    [
        ("image", (40, 48, 2), 1), ("image", (40, 48, 5), 1), ("img", (40, 48, 13), 1), ("image", (64, 64, 30), 1),
        ("image", (40, 28, 28), 40), ("image", (9, 40, 48), 9), ("images", (40, 48, 5), 40), ("image", (5, 40, 48), 5),
    ],
)  # fmt: skip
def test_an_array_called_image_with_a_short_last_axis_is_one_of_bands(
    name: str, shape: tuple[int, ...], images: int, tmp_path: Path
) -> None:
    pixels = RNG.integers(0, 256, shape, dtype=np.uint8)
    source = open_source(write(tmp_path / "a.h5", **{name: pixels}))
    assert len(source) == images
    data = source[0].data
    values = np.load(io.BytesIO(data)) if isinstance(data, bytes) else data
    assert np.array_equal(values, pixels if images == 1 else pixels[0])


def test_bands_of_one_image_a_file_are_chosen(tmp_path: Path) -> None:
    pixels = RNG.integers(0, 256, (3, 40, 48, 5), dtype=np.uint8)
    for number in range(3):
        write(tmp_path / f"tiles/{number}.h5", image=pixels[number])
    assert barlowctl(["data", "pack", str(tmp_path / "tiles"), str(tmp_path / "t.beton"), "--bands", "1-5"]) == 0
    packed = Beton.open(tmp_path / "t.beton")
    assert [np.array_equal(packed.image(row), pixels[row]) for row in range(3)] == [True] * 3
