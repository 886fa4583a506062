"""Fingerprints, lists of images and overlaps, over every kind of source."""

from __future__ import annotations

import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from barlowctl.data.beton.pack import pack
from barlowctl.data.beton.reader import Beton
from barlowctl.data.loaders.plain import Pictures
from barlowctl.data.overlap import overlap
from barlowctl.data.sources import image_list, open_source


def write_images(folder: Path, count: int, seed: int = 0) -> Path:
    generator = np.random.default_rng(seed)
    for index in range(count):
        path = folder / "ab"[index % 2] / f"{index:02d}.bmp"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 255, (8, 8, 3), dtype=np.uint8)).save(path)
    return folder


def opened(path: Path) -> Pictures:
    return Pictures(open_source(path))


def packed(folder: Path) -> Beton:
    out = folder.with_suffix(".beton")
    pack(open_source(folder), out, overwrite=True)
    return Beton.open(out)


def zipped(folder: Path) -> Pictures:
    out = folder.with_suffix(".zip")
    with zipfile.ZipFile(out, "w") as archive:
        for file in sorted(folder.rglob("*.bmp")):
            archive.write(file, file.relative_to(folder))
    return opened(out)


@pytest.mark.parametrize("read", [opened, packed, zipped])
def test_a_copy_has_the_same_fingerprint_and_any_change_another(
    tmp_path: Path, read: Callable[[Path], Beton | Pictures]
) -> None:
    folder = write_images(tmp_path / "first", 6)
    first = read(folder).fingerprint
    assert first.images == 6
    copy = shutil.copytree(folder, tmp_path / "copy")
    assert read(copy).fingerprint == first
    Image.new("RGB", (8, 8)).save(copy / "a" / "00.bmp")  # of the same size in bytes
    assert read(copy).fingerprint != first
    shutil.copy(folder / "a" / "00.bmp", copy / "a" / "00.bmp")
    assert read(copy).fingerprint == first
    (copy / "a" / "00.bmp").rename(copy / "b" / "00.bmp")  # another label
    assert read(copy).fingerprint != first


def test_a_list_comes_back_whatever_the_names_are(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "x", 4)
    for name in (b"caf\xe9.bmp", b"two\nlines.bmp", "tab\tß.bmp".encode()):
        shutil.copy(folder / "a" / "00.bmp", os.path.join(os.fsencode(folder / "a"), name))
    noted = opened(folder).listed()
    (tmp_path / "images.txt.gz").write_bytes(image_list.pack(noted))
    assert image_list.read(tmp_path / "images.txt.gz") == noted
    assert image_list.read(tmp_path / "nowhere.gz") is None


def test_of_very_many_images_the_folders_are_noted(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "x", 6)

    before = opened(folder).listed(by_folder=True)
    assert before.by_folder
    assert {name: row[0] for name, row in before.rows.items()} == {"a": 3, "b": 3}
    (folder / "a" / "00.bmp").unlink()
    (folder / "b" / "01.bmp").rename(folder / "b" / "other.bmp")
    assert image_list.changes(before, opened(folder).listed(before.by_folder)) == [
        "1 gone in a",
        "names, sizes or labels differ in b",
    ]


def test_the_same_files_by_another_path_are_found(tmp_path: Path) -> None:
    train = write_images(tmp_path / "train", 10)
    other = write_images(tmp_path / "other", 10, seed=1)
    (tmp_path / "link").symlink_to(train)
    assert overlap(opened(train), opened(tmp_path / "link")).complete
    assert overlap(opened(train), opened(other)).images == 0
    shutil.copytree(train, tmp_path / "copies")
    (tmp_path / "copies" / "a").rename(tmp_path / "copies" / "c")  # other names, the same bytes
    assert overlap(opened(train), opened(tmp_path / "copies")).complete
    assert overlap(packed(train), packed(tmp_path / "copies")).complete
    assert overlap(packed(train), packed(other)).images == 0
    shutil.copy(train / "a" / "00.bmp", other / "a" / "00.bmp")
    assert overlap(opened(train), opened(other)).images == 1


def test_one_image_is_found_among_thousands_of_its_size(tmp_path: Path) -> None:
    from barlowctl.data.beton.layout import RAW
    from barlowctl.data.beton.writer import BetonWriter

    pixels = np.random.default_rng(0).integers(0, 255, (1200, 4 * 4 * 3), dtype=np.uint8)
    for name, part in (("train", pixels), ("test", pixels[-3:])):
        with BetonWriter(tmp_path / f"{name}.beton", capacity=len(part)) as writer:
            for image in part:
                writer.append(image.tobytes(), mode=RAW, width=4, height=4, label=0)
            writer.finish()
    assert overlap(Beton.open(tmp_path / "train.beton"), Beton.open(tmp_path / "test.beton")).complete
