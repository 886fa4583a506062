"""Our `.beton` files against stock FFCV's, both ways, and against damage."""

from __future__ import annotations

import importlib.util
import io
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

from barlowctl.data.beton import writer as beton_writer
from barlowctl.data.beton.layout import HEADER, JPEG, RAW
from barlowctl.data.beton.reader import Beton
from barlowctl.data.beton.writer import BetonWriter
from barlowctl.data.loaders.fast import FastLoader
from barlowctl.data.views.spec import CenterSpec
from barlowctl.errors import UserError
from barlowctl.locks import take
from tests.arrays import read_arrays


def jpeg(pixels: np.ndarray, quality: int = 95) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=quality)
    return stream.getvalue()


def pictures(n: int, height: int = 24, width: int = 32) -> list[np.ndarray]:
    random = np.random.default_rng(0)
    return [random.integers(0, 256, (height, width, 3), dtype=np.uint8) for _ in range(n)]


def write(path, images, *, labels=None, capacity=None, **options) -> Beton:
    with BetonWriter(path, capacity or len(images), **options) as writer:
        for i, image in enumerate(images):
            label = -1 if labels is None else labels[i]
            writer.append(image, mode=RAW, width=image.shape[1], height=image.shape[0], label=label)
        writer.finish(source="test")
    return Beton.open(path)


@pytest.mark.parametrize("picked", [False, True])
def test_a_file_that_is_copied_over_while_it_is_read_is_refused(tmp_path, picked: bool) -> None:
    """By one of the same size, where the mapped table would name other images' bytes."""
    beton = write(tmp_path / "a.beton", pictures(3), labels=[0, 1, 2])
    content = beton.path.read_bytes()
    other = write(tmp_path / "b.beton", [image[::-1].copy() for image in pictures(3)], labels=[0, 1, 2])
    assert other.noted_hash != beton.noted_hash
    assert len(other.bytes) == len(beton.bytes)
    beton = beton.pick(np.array([2, 0])) if picked else beton
    loader = FastLoader(beton, views=[CenterSpec(16, 16)], batch_size=2, seed=0)

    def written(octets: bytes, seconds: int) -> None:
        beton.path.write_bytes(octets)
        os.utime(beton.path, (seconds, seconds))

    written(content, 1)
    beton.image(0)
    written(other.path.read_bytes(), 2)
    for read in (lambda: beton.image(0), lambda: next(loader.epoch(0))):
        with pytest.raises(UserError, match="was cut short or written anew while it was read"):
            read()
    written(content, 3)  # put back, it is gone on with
    beton.image(0)
    next(loader.epoch(0))
    os.replace(other.path, beton.path)  # of which nothing is read
    beton.image(0)
    next(loader.epoch(0))


@pytest.mark.parametrize("picked", [False, True])
def test_a_file_that_is_cut_short_while_it_is_read_is_refused(tmp_path, picked: bool) -> None:
    """Whoever reads beyond the end of a mapped file is ended by the system, without a word."""
    beton = write(tmp_path / "a.beton", pictures(3))
    beton = beton.pick(np.array([2, 0])) if picked else beton
    loader = FastLoader(beton, views=[CenterSpec(16, 16)], batch_size=2, seed=0)
    os.truncate(beton.path, beton.path.stat().st_size - 4096)
    for read in (lambda: beton.image(0), lambda: next(loader.epoch(0))):
        with pytest.raises(UserError, match="was cut short or written anew while it was read"):
            read()
    loader.close()


def test_a_file_that_another_one_takes_the_place_of_is_read_on(tmp_path) -> None:
    images = pictures(3)
    beton = write(tmp_path / "a.beton", images)
    write(tmp_path / "a.beton", pictures(1), overwrite=True)
    assert np.array_equal(beton.image(2), images[2])


def test_what_was_written_is_read(tmp_path):
    images = pictures(5)
    path = tmp_path / "a.beton"
    with BetonWriter(path, 9, class_names=["cat", "zebra ü"]) as writer:
        for i, image in enumerate(images[:4]):
            writer.append(image, mode=RAW, width=32, height=24, label=i % 2)
        writer.append(jpeg(images[4]), mode=JPEG, width=32, height=24)
        content_hash = writer.finish(source="here", skipped=["bad \udcff.jpg"])
    beton = Beton.open(path)
    assert len(beton) == beton.num_samples == 5
    assert beton.labels.tolist() == [0, 1, 0, 1, -1]
    assert beton.labels.dtype == np.int64
    assert beton.modes.tolist() == [RAW] * 4 + [JPEG]
    assert beton.num_classes == 2
    for i in range(4):
        assert np.array_equal(beton.image(i), images[i])
    assert np.array_equal(beton.image(4), np.array(Image.open(io.BytesIO(jpeg(images[4])))))
    assert beton.stored(4).tobytes() == jpeg(images[4])
    assert beton.class_names == ["cat", "zebra ü"]
    assert beton.info["source"] == "here"
    assert beton.info["skipped"] == ["bad \udcff.jpg"]
    assert beton.content_hash == content_hash == beton.compute_hash()
    assert os.listdir(tmp_path) == ["a.beton"]
    assert not beton.bytes.flags.writeable


def test_hash_depends_on_pixels_sizes_labels_and_order_only(tmp_path):
    images = pictures(3)
    first = write(tmp_path / "a", images, labels=[0, 1, 2]).content_hash
    assert write(tmp_path / "b", images, labels=[0, 1, 2], capacity=50, page_size=16 << 20).content_hash == first
    assert write(tmp_path / "c", images, labels=[0, 1, 1]).content_hash != first
    assert write(tmp_path / "d", images[::-1], labels=[0, 1, 2]).content_hash != first
    turned = [image.reshape(32, 24, 3) for image in images]
    assert write(tmp_path / "e", turned, labels=[0, 1, 2]).content_hash != first


def test_names_are_kept_looked_up_and_leave_the_hash_alone(tmp_path):
    images, names = pictures(3), ["cats/ü.jpg", "", "dogs/" + "x" * 300 + ".jpg"]
    with BetonWriter(tmp_path / "a.beton", 5) as writer:
        for image, name in zip(images, names, strict=True):
            writer.append(image, mode=RAW, width=32, height=24, name=name)
        writer.finish()
    beton = Beton.open(tmp_path / "a.beton")
    assert beton.has_names
    assert [beton.name_of(i) for i in range(3)] == names
    assert beton.names.intact()
    assert all(np.array_equal(beton.image(i), images[i]) for i in range(3))
    without = write(tmp_path / "b.beton", images)
    assert not without.has_names
    assert without.name_of(2) == "sample 2"
    assert without.content_hash == beton.content_hash == beton.compute_hash()
    whole = bytearray((tmp_path / "a.beton").read_bytes())
    whole[beton.info["names_at"] + 8 * 4] ^= 1  # the first letter
    (tmp_path / "a.beton").write_bytes(whole)
    assert not Beton.open(tmp_path / "a.beton").names.intact()
    whole[beton.info["names_at"] + 8] = 255  # where the second name begins
    (tmp_path / "a.beton").write_bytes(whole)
    with pytest.raises(UserError, match="section of names is damaged"):
        Beton.open(tmp_path / "a.beton").name_of(1)


def test_no_sample_crosses_a_page_and_pages_grow(tmp_path):
    sizes = [(700, 600), (10, 10), (1300, 900), (700, 600), (1, 1), (2000, 1500), (700, 600)]
    images = [np.full((h, w, 3), i, dtype=np.uint8) for i, (h, w) in enumerate(sizes)]
    beton = write(tmp_path / "a.beton", images, page_size=2 << 20)
    assert beton.page_size == 16 << 20
    first, last = beton.pointers // beton.page_size, (beton.pointers + beton.sizes - 1) // beton.page_size
    assert np.array_equal(first, last)
    assert all(np.array_equal(beton.image(i), image) for i, image in enumerate(images))


def test_unlabelled(tmp_path):
    beton = write(tmp_path / "a.beton", pictures(1))
    assert (beton.labels == -1).all()
    assert beton.num_classes == 0
    assert beton.labels.tolist() == [-1]


def test_existing_file_is_kept_unless_asked(tmp_path):
    write(tmp_path / "a.beton", pictures(1))
    with pytest.raises(UserError, match=r"a\.beton exists already"):
        BetonWriter(tmp_path / "a.beton", 1)
    assert write(tmp_path / "a.beton", pictures(2), overwrite=True).num_samples == 2


def test_exception_leaves_nothing_and_keeps_the_old_file(tmp_path):
    old = write(tmp_path / "a.beton", pictures(1)).content_hash

    def fail(name: str) -> None:
        with BetonWriter(tmp_path / name, 3, overwrite=True) as writer:
            writer.append(pictures(1)[0], mode=RAW, width=32, height=24)
            raise RuntimeError("midway")

    for name in ("a.beton", "new.beton"):
        with pytest.raises(RuntimeError, match="midway"):
            fail(name)
    assert os.listdir(tmp_path) == ["a.beton"]
    assert Beton.open(tmp_path / "a.beton").content_hash == old


def test_killed_writer_leaves_no_final_file_and_does_not_block_the_next(tmp_path):
    code = (
        "import os, signal, numpy as np\n"
        "from barlowctl.data.beton.writer import BetonWriter\n"
        f"writer = BetonWriter({str(tmp_path / 'a.beton')!r}, 3)\n"
        "writer.append(np.zeros((2000, 2000, 3), np.uint8), mode=1, width=2000, height=2000)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == -9
    assert os.listdir(tmp_path) == [".a.beton.partial"]
    write(tmp_path / "a.beton", pictures(2))
    assert os.listdir(tmp_path) == ["a.beton"]


def test_two_writers_of_one_file_are_refused(tmp_path):
    with (
        BetonWriter(tmp_path / "a.beton", 1),
        pytest.raises(UserError, match="another process is writing"),
    ):
        BetonWriter(tmp_path / "a.beton", 1)


def test_a_writer_that_comes_while_another_one_finishes_leaves_its_file_alone(tmp_path, monkeypatch):
    first = BetonWriter(tmp_path / "a.beton", 1)
    first.append(np.zeros((8, 8, 3), np.uint8), mode=RAW, width=8, height=8)
    locks = []

    def late(file, **options) -> bool:
        if not locks:
            first.finish()  # after the second has opened the file, and before it locks it
        locks.append(file)
        return take(file, **options)

    monkeypatch.setattr(beton_writer, "take", late)
    with BetonWriter(tmp_path / "a.beton", 1):
        assert Beton.open(tmp_path / "a.beton").num_samples == 1
    assert len(locks) == 2
    assert os.listdir(tmp_path) == ["a.beton"]


def test_too_wide_an_image_is_refused_and_the_writer_goes_on(tmp_path):
    with BetonWriter(tmp_path / "a.beton", 2) as writer:
        with pytest.raises(ValueError, match="65536x1 pixels"):
            writer.append(np.zeros((1, 65536, 3), np.uint8), mode=RAW, width=65536, height=1)
        writer.append(np.zeros((1, 65535, 3), np.uint8), mode=RAW, width=65535, height=1)
        writer.finish()
    assert Beton.open(tmp_path / "a.beton").widths.tolist() == [65535]


def damaged(tmp_path, change) -> str:
    """The message of opening a good file of three 24x32 images after `change(bytearray)`."""
    path = tmp_path / "damaged.beton"
    write(path, pictures(3), labels=[0, 1, 2], overwrite=True)
    content = bytearray(path.read_bytes())
    changed = change(content)
    path.write_bytes(content if changed is None else changed)
    with pytest.raises(UserError) as caught:
        Beton.open(path)
    assert str(path) in caught.value.message
    return caught.value.message


def test_damage_is_named(tmp_path):
    metadata = HEADER.itemsize + 2 * 1041

    def set_bytes(start, value, size):
        def change(content):
            content[start : start + size] = value.to_bytes(size, "little")

        return change

    assert "not a .beton" in damaged(tmp_path, lambda content: b"")
    assert "not a .beton" in damaged(tmp_path, lambda content: b"\x02\x00")
    assert "not a .beton" in damaged(tmp_path, lambda content: jpeg(pictures(1)[0]))
    assert "not a .beton" in damaged(tmp_path, set_bytes(0, 3, 2))
    assert "unfinished" in damaged(tmp_path, set_bytes(16, 0, 8))
    assert "cut short" in damaged(tmp_path, lambda content: content[: (8 << 20) + 1000])
    assert "cut short" in damaged(tmp_path, lambda content: content[:-24])
    assert "cut short" in damaged(tmp_path, lambda content: content[:-1])
    assert "cut short" in damaged(tmp_path, lambda content: content[:100])
    assert "cut short" in damaged(tmp_path, set_bytes(8, 1 << 40, 8))
    assert "holds no images" in damaged(tmp_path, set_bytes(8, 0, 8))
    assert "sample 1 points outside" in damaged(tmp_path, set_bytes(metadata + 24 + 5, 1 << 62, 8))
    assert "sample 1 points outside" in damaged(tmp_path, set_bytes(metadata + 24 + 5, 2**64 - 1, 8))
    assert "sample 2 has storage mode 7" in damaged(tmp_path, set_bytes(metadata + 48, 7, 1))
    assert "sample 0 is noted as 33x24" in damaged(tmp_path, set_bytes(metadata + 1, 33, 2))
    assert "custom fields" in damaged(tmp_path, set_bytes(HEADER.itemsize, 255, 1))

    def grow_last_size(content):
        content[-8:] = (1 << 40).to_bytes(8, "little")

    assert "sample 2 points outside" in damaged(tmp_path, grow_last_size)
    assert "damaged" in damaged(tmp_path, set_bytes(metadata + 3 * 24 + 24, 0, 1))


def test_missing_file(tmp_path):
    with pytest.raises(UserError, match="cannot open"):
        Beton.open(tmp_path / "none.beton")
    with pytest.raises(UserError, match="cannot open"):
        Beton.open(tmp_path)


def test_corrupt_jpeg_names_file_and_sample(tmp_path):
    path = tmp_path / "a.beton"
    with BetonWriter(path, 2) as writer:
        good = jpeg(pictures(1)[0])
        writer.append(good, mode=JPEG, width=32, height=24)
        writer.append(good[: len(good) // 2], mode=JPEG, width=32, height=24)
        writer.finish()
    beton = Beton.open(path)
    beton.image(0)
    with pytest.raises(UserError, match=r"a\.beton: sample 1 cannot be read: not a readable JPEG"):
        beton.image(1)


# Stock FFCV runs in a process of its own: importing it takes seconds, and its compiled code complains when collected.

needs_ffcv = pytest.mark.skipif(
    importlib.util.find_spec("ffcv") is None, reason="ffcv is not installed (it is optional)"
)

READ_WITH_FFCV = """
import sys
import numpy as np
from ffcv.fields.decoders import IntDecoder, SimpleRGBImageDecoder
from ffcv.loader import Loader, OrderOption
pipelines = {"image": [SimpleRGBImageDecoder()], "label": [IntDecoder()]}
for name, os_cache in (("jpeg", True), ("raw", False)):
    path = f"{sys.argv[1]}/{name}.beton"
    loader = Loader(path, batch_size=3, num_workers=1, os_cache=os_cache, order=OrderOption.SEQUENTIAL,
                    drop_last=False, pipelines=pipelines)
    images, labels = zip(*[(np.array(images), np.array(labels).ravel()) for images, labels in loader])
    np.savez(path.replace("beton", "npz"), images=np.concatenate(images), labels=np.concatenate(labels))
"""

WRITE_WITH_FFCV = """
import sys
import numpy as np
from ffcv.fields import FloatField, IntField, RGBImageField
from ffcv.writer import DatasetWriter
images = np.load(f"{sys.argv[1]}/images.npy")
labelled = {"image": RGBImageField(write_mode="raw"), "label": IntField(), "score": FloatField()}
DatasetWriter(f"{sys.argv[1]}/stock.beton", labelled, page_size=2 << 20, num_workers=2).from_indexed_dataset(
    [(image, i * 10, 0.5) for i, image in enumerate(images)], chunksize=2)
unlabelled = {"image": RGBImageField(write_mode="jpg")}
DatasetWriter(f"{sys.argv[1]}/unlabelled.beton", unlabelled, num_workers=1).from_indexed_dataset(
    [(image,) for image in images])
"""


def run_python(code: str, *arguments) -> None:
    """Run with numba's compiler off: the same code of ffcv's, without waiting for it to compile."""
    command = [sys.executable, "-W", "ignore", "-c", code, *map(str, arguments)]
    environment = os.environ | {"NUMBA_DISABLE_JIT": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def exchanged(tmp_path_factory):
    """A folder: our files and what stock FFCV read of them, and files that it wrote."""
    folder = tmp_path_factory.mktemp("exchanged")
    images = pictures(7, 600, 800)
    for name, mode in (("jpeg", JPEG), ("raw", RAW)):
        with BetonWriter(folder / f"{name}.beton", 20, page_size=2 << 20) as writer:
            for i, image in enumerate(images):
                payload = image if mode == RAW else jpeg(image, 80)
                name = f"photo {i}.jpg" if mode == RAW else None  # with and without the section of names
                writer.append(payload, mode=mode, width=800, height=600, label=i * i, name=name)
            writer.finish()
    np.save(folder / "images.npy", pictures(9, 500, 700))
    run_python(READ_WITH_FFCV + WRITE_WITH_FFCV, folder)
    return folder


@needs_ffcv
def test_stock_ffcv_reads_our_files(exchanged):
    # raw: the same bytes. JPEG: FFCV decodes with the fast inverse DCT, Pillow with the accurate one.
    for name, tolerance in (("jpeg", 6), ("raw", 0)):
        beton = Beton.open(exchanged / f"{name}.beton")
        seen = read_arrays(exchanged / f"{name}.npz")
        assert seen["labels"].tolist() == [i * i for i in range(7)]
        for i in range(7):
            difference = np.abs(seen["images"][i].astype(int) - beton.image(i).astype(int))
            assert difference.max() <= tolerance


@needs_ffcv
def test_we_read_stock_ffcv_files(exchanged):
    beton = Beton.open(exchanged / "stock.beton")
    assert beton.labels.tolist() == [i * 10 for i in range(9)]
    assert beton.class_names == []
    assert beton.info == {}
    assert len(beton.content_hash) == 64
    for i, image in enumerate(pictures(9, 500, 700)):
        assert np.array_equal(beton.image(i), image)
    unlabelled = Beton.open(exchanged / "unlabelled.beton")
    assert (unlabelled.labels == -1).all()
    assert unlabelled.modes.tolist() == [JPEG] * 9
    assert unlabelled.image(8).shape == (500, 700, 3)


def test_a_stored_jpeg_of_another_size_is_named_before_it_is_decoded(tmp_path, monkeypatch):
    """Its header may say thousands of megapixels."""
    with BetonWriter(tmp_path / "a.beton", 1) as writer:
        writer.append(jpeg(np.zeros((30, 40, 3), np.uint8)), mode=JPEG, width=16, height=16)
        writer.finish()
    monkeypatch.setattr(JpegImageFile, "load", lambda self: pytest.fail("decoded"))
    with pytest.raises(UserError, match=r"a\.beton: sample 0 cannot be read: .*it is 40 x 30 pixels, noted 16 x 16"):
        Beton.open(tmp_path / "a.beton").image(0)


def test_the_packages_face_has_the_reader() -> None:
    from barlowctl.data import beton
    from barlowctl.data.beton import reader

    assert beton.Beton is reader.Beton
