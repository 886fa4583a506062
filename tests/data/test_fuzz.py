"""Damaged files by the hundred: a clear error that names the file, or the sample reported; never a crash or a hang.

The short version runs always; `make test-slow` does 10,000 of packed files and as many of images.
"""

from __future__ import annotations

import contextlib
import io
import tarfile
import time
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from barlowctl.data import decode
from barlowctl.data.beton import Beton
from barlowctl.data.beton_format import JPEG, RAW
from barlowctl.data.beton_writer import BetonWriter
from barlowctl.data.encode import Stored, Unreadable, encode
from barlowctl.data.loader import FastLoader
from barlowctl.data.picture import Picture
from barlowctl.data.sources import open_source
from barlowctl.data.views import ViewSpec
from barlowctl.errors import UserError
from tests.data.views_double import jpeg, noise_images, photograph

needs_ffcv = pytest.mark.skipif(not decode.available()[0], reason=decode.available()[1])
CPU_SECONDS, SECONDS = 5.0, 120.0  # of one damaged file, on a machine that does other work too


class Watch:
    """Fails a test whose damaged file takes too long."""

    def __init__(self) -> None:
        self.cpu, self.wall = time.process_time(), time.monotonic()

    def check(self, which: str) -> None:
        cpu, wall = time.process_time() - self.cpu, time.monotonic() - self.wall
        assert cpu < CPU_SECONDS, f"{which} took {cpu:.1f} CPU-seconds"
        assert wall < SECONDS, f"{which} took {wall:.1f} seconds"


def mutate(content: bytes, rng: np.random.Generator, regions: list[tuple[int, int]]) -> bytes:
    """A copy with a few bytes changed, a piece cut out, doubled, zeroed or moved, or the end missing."""
    data = bytearray(content)
    begin, end = regions[rng.integers(len(regions))]
    at = int(rng.integers(begin, end))
    length = int(min(rng.integers(1, 64), end - at))
    match rng.integers(8):
        case 0 | 1 | 2:
            for _ in range(int(rng.integers(1, 6))):
                data[int(rng.integers(begin, end))] = int(rng.integers(256))
        case 3:
            data[at] = int(rng.choice([0, 1, 127, 128, 255]))
        case 4:
            data[at : at + length] = bytes(length)
        case 5:
            del data[at : at + length]
        case 6:
            data[at:at] = data[at : at + length]
        case _:
            del data[at:]
    return bytes(data)


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, list[tuple[int, int]]]:
    """A small packed file and its parts: header and records, images, table."""
    path = tmp_path_factory.mktemp("fuzz") / "base.beton"
    images = noise_images(6, sides=(12, 24))
    with BetonWriter(path, capacity=6, class_names=["a", "b"], page_size=2 << 20) as writer:
        for number, image in enumerate(images):
            height, width = image.shape[:2]
            payload, mode = (jpeg(image), JPEG) if number % 2 else (image, RAW)
            writer.append(payload, mode=mode, width=width, height=height, label=number % 2)
        writer.finish(channels=3)
    beton = Beton.open(path)
    first, last = int(beton.pointers.min()), int((beton.pointers + beton.sizes).max())
    record = 2106  # the header and two descriptors end here
    return path.read_bytes(), [(0, 24), (record, record + 400), (first, last), (last, beton.bytes.size)]


def read_all(path: Path, on_unreadable: str) -> str:
    """Open and read an epoch: "read", or the error's text."""
    try:
        source = Beton.open(path)
        views = [ViewSpec(8), ViewSpec(8, solarize=0.5)]
        with FastLoader(
            source,
            views=views,
            batch_size=3,
            seed=0,
            on_unreadable=on_unreadable,  # type: ignore[arg-type]
        ) as loader:
            for batch in loader.epoch(0):
                assert (batch.indices >= 0).all()
                assert (batch.indices < source.num_samples).all()
    except UserError as error:
        return str(error)
    return "read"


def fuzz_packed(folder: Path, packed: tuple[bytes, list[tuple[int, int]]], count: int, seed: int) -> Counter[str]:
    content, regions = packed
    rng = np.random.default_rng(seed)
    outcomes: Counter[str] = Counter()
    (folder / "sound.beton").write_bytes(content)
    assert read_all(folder / "sound.beton", "raise") == "read"  # compiles, if need be
    for number in range(count):
        path = folder / f"mutated-{number % 8}.beton"
        path.unlink(missing_ok=True)  # a new file: the old one may still be mapped
        path.write_bytes(mutate(content, rng, regions))
        watch = Watch()
        said = read_all(path, "raise" if number % 4 else "replace")
        watch.check(f"mutation {number} of seed {seed}")
        if said != "read":
            assert path.name in said, f"mutation {number} of seed {seed}: {said}"
        outcomes["sample" if "sample" in said else "file" if said != "read" else "read"] += 1
    return outcomes


@needs_ffcv
def test_damaged_packed_files(tmp_path: Path, packed: tuple[bytes, list[tuple[int, int]]]) -> None:
    outcomes = fuzz_packed(tmp_path, packed, 400, seed=0)
    assert min(outcomes["sample"], outcomes["file"], outcomes["read"]) > 20, outcomes


@needs_ffcv
@pytest.mark.slow
def test_damaged_packed_files_at_length(tmp_path: Path, packed: tuple[bytes, list[tuple[int, int]]]) -> None:
    fuzz_packed(tmp_path, packed, 10_000, seed=1)


# ---- images ----------------------------------------------------------------------------------------------


def encoded(kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image = Image.fromarray(photograph(height=24, width=32))
    if kind in ("GIF", "PNG-P"):
        image = image.quantize(32)
    if kind == "CMYK":
        image, kind = image.convert("CMYK"), "JPEG"
    image.save(stream, kind.split("-")[0], **options)
    return stream.getvalue()


IMAGES: dict[str, Callable[[], bytes]] = {
    "baseline": lambda: encoded("JPEG"),
    "progressive": lambda: encoded("JPEG", progressive=True),
    "turned": lambda: encoded("JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"),
    "CMYK": lambda: encoded("CMYK"),
    "PNG": lambda: encoded("PNG"),
    "palette": lambda: encoded("PNG-P"),
    "GIF": lambda: encoded("GIF"),
    "TIFF": lambda: encoded("TIFF", compression="tiff_lzw"),
    "WEBP": lambda: encoded("WEBP"),
    "BMP": lambda: encoded("BMP"),
}


def fuzz_image(content: bytes, count: int, seed: int) -> Counter[str]:
    rng = np.random.default_rng(seed)
    outcomes: Counter[str] = Counter()
    for number in range(count):
        data = mutate(content, rng, [(0, len(content)), (0, min(200, len(content)))])
        watch = Watch()
        try:
            stored = encode(Picture("x", 0, data), shorter_side=20)
            assert isinstance(stored, Stored)
            assert stored.width > 0
            assert stored.height > 0
            said = "stored"
        except Unreadable as error:
            said = str(error)
        assert said, f"mutation {number} of seed {seed}"
        outcomes["stored" if said == "stored" else "unreadable"] += 1
        watch.check(f"mutation {number} of seed {seed}")
    return outcomes


@pytest.mark.filterwarnings("ignore")  # Pillow warns of what it finds odd
@pytest.mark.parametrize("kind", IMAGES)
def test_damaged_images(kind: str) -> None:
    outcomes = fuzz_image(IMAGES[kind](), 60, seed=0)
    assert outcomes["unreadable"] > 2


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", IMAGES)
def test_damaged_images_at_length(kind: str) -> None:
    fuzz_image(IMAGES[kind](), 1000, seed=1)


# ---- archives --------------------------------------------------------------------------------------------


def write_archive(path: Path) -> None:
    members = {f"{label}/{number}.jpg": jpeg(photograph(height=9, width=12)) for label in "ab" for number in range(3)}
    if path.suffix == ".tar":
        with tarfile.open(path, "w") as shard:
            for name, data in [*members.items(), ("a/0.cls", b"3")]:
                header = tarfile.TarInfo(name)
                header.size = len(data)
                shard.addfile(header, io.BytesIO(data))
    elif path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in members.items():
                archive.writestr(name, data)
    else:
        import pyarrow as pa
        from pyarrow import parquet

        rows = [{"bytes": data, "path": name} for name, data in members.items()]
        parquet.write_table(pa.table({"image": rows, "label": [0, 0, 0, 1, 1, 1]}), path)


def read_archive(path: Path) -> str:
    """Open and read every image, some of which may be unreadable: "opened", or the error's text."""
    try:
        source = open_source(path)
    except UserError as error:
        return str(error)
    for index in range(len(source)):
        with contextlib.suppress(OSError, Unreadable):
            encode(source[index])
    return "opened"


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("suffix", [".tar", ".zip", ".parquet"])
def test_damaged_archives(tmp_path: Path, suffix: str) -> None:
    """Refused with the file's name, or read image by image, each of which may be missing."""
    write_archive(tmp_path / f"x{suffix}")
    content = (tmp_path / f"x{suffix}").read_bytes()
    rng = np.random.default_rng(0)
    outcomes: Counter[str] = Counter()
    for number in range(150):
        path = tmp_path / f"mutated{suffix}"
        path.unlink(missing_ok=True)
        path.write_bytes(mutate(content, rng, [(0, len(content))]))
        watch = Watch()
        said = read_archive(path)
        if said != "opened":
            assert str(tmp_path) in said, f"mutation {number}: {said}"
        outcomes["opened" if said == "opened" else "refused"] += 1
        watch.check(f"mutation {number}")
    assert min(outcomes["opened"], outcomes["refused"]) > 0, outcomes
