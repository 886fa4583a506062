"""Damaged files by the hundred: a clear error that names the file, or the sample reported; never a crash or a hang.

And no silent garbage: what is read is held against what Pillow reads from the same damaged bytes (and torchvision makes
of it), what has a checksum against the original, and what is reported against the decoder's own complaint.

The short version runs always; `make test-slow` does 10,000 of packed files and as many of images.
"""

from __future__ import annotations

import contextlib
import io
import re
import subprocess
import sys
import tarfile
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from barlowctl.data.beton import decode, decoders
from barlowctl.data.beton.encode import Stored, encode
from barlowctl.data.beton.layout import JPEG, RAW
from barlowctl.data.beton.reader import Beton
from barlowctl.data.beton.writer import BetonWriter
from barlowctl.data.images.unreadable import Unreadable
from barlowctl.data.loaders.batch import ViewBatch
from barlowctl.data.loaders.fast import FastLoader
from barlowctl.data.loaders.plain import PlainLoader
from barlowctl.data.sources import open_source
from barlowctl.data.sources.picture import Picture
from barlowctl.data.views.spec import CenterSpec, ViewSpec
from barlowctl.errors import UserError
from tests.data.views_double import jpeg, noise_images, photograph
from tests.data.watch import watch

by_each_decoder = pytest.mark.usefixtures("decoder")


HANG = """
import sys, time
from tests.data.watch import watch
with watch("x", sys.stderr, seconds=0.2):
    time.sleep(100)
"""


def test_what_never_comes_back_ends_the_process_and_shows_where() -> None:
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", HANG], capture_output=True, text=True, cwd=root, timeout=90)
    assert done.returncode == 1
    assert 'File "<string>", line 5' in done.stderr


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
    return path.read_bytes(), [(0, 24), (record, record + 400), *[(first, last)] * 3, (last, beton.bytes.size)]


VIEWS = [CenterSpec(10, 10), ViewSpec(8), ViewSpec(8, solarize=0.5)]


def refused(source: Beton) -> set[int]:
    """Samples whose JPEG the loader's decoder, asked directly, does not read or complains of."""
    rows, decoder = set(), decoders.chosen()
    assert decoder is not None
    for i in range(source.num_samples):
        if source.modes[i] == JPEG:
            shape = int(source.heights[i]), int(source.widths[i])
            target = np.empty(shape[0] * shape[1] * 3, np.uint8)
            place = int(source.pointers[i]), int(source.sizes[i])
            if decoder.read(np.asarray(source.bytes), *place, *shape, target) != decode.OK:
                rows.add(i)
    return rows


class PillowRefuses(Exception):
    """An image that the loader read: the newer libjpeg-turbo in Pillow refuses quantization tables with a zero, say."""


def check_batch(source: Beton, batch: ViewBatch, plain: PlainLoader) -> None:
    """Views are those that torchvision makes of what Pillow reads; keys and labels belong to them.

    Raises:
        PillowRefuses: it does not read an image.
    """
    assert batch.labels.tolist() == source.labels[batch.indices.numpy()].tolist()
    for row, (key, index) in enumerate(zip(batch.keys.tolist(), batch.indices.tolist(), strict=True)):
        try:
            image = source.image(index)
        except UserError as error:
            raise PillowRefuses from error
        for number, view in enumerate(batch.views):
            expected = plain._rows._view(image, 0, key, number)
            difference = (view[row].int() - expected.int()).abs()
            assert difference.float().mean() < 1, f"sample {index}, view {number}: {difference.max()} levels off"


def read_all(path: Path, on_unreadable: str) -> str:
    """Open and read an epoch, and check what was read and what was reported: "read", or the error's text."""
    try:
        source = Beton.open(path)
    except UserError as error:
        return str(error)
    shared: dict[str, Any] = {"views": VIEWS, "batch_size": 3, "seed": 0, "on_unreadable": on_unreadable}
    plain = PlainLoader(source, **shared)
    try:
        with FastLoader(source, **shared) as loader:
            replaced = set()
            for batch in loader.epoch(0):
                check_batch(source, batch, plain)
                replaced |= set(batch.keys[batch.keys != batch.indices].tolist())
        assert replaced == set(loader.unreadable) == refused(source)
        return "replaced" if replaced else "read"
    except PillowRefuses:
        return "refused by Pillow alone"
    except UserError as error:
        if named := re.search(r": sample (\d+) cannot be read: (a broken|not)", str(error)):
            assert int(named[1]) in refused(source)
        return str(error)


def same_content(before: Beton, after: Beton) -> bool:
    """Whether two files hold the same images and labels."""
    fields = ("modes", "widths", "heights", "labels", "sizes")
    return (
        before.num_samples == after.num_samples
        and all(np.array_equal(getattr(before, field), getattr(after, field)) for field in fields)
        and all(np.array_equal(before.stored(i), after.stored(i)) for i in range(before.num_samples))
    )


def fuzz_packed(
    folder: Path, packed: tuple[bytes, list[tuple[int, int]]], count: int, seed: int, terminal: IO[str]
) -> Counter[str]:
    content, regions = packed
    rng = np.random.default_rng(seed)
    outcomes: Counter[str] = Counter()
    (folder / "sound.beton").write_bytes(content)
    sound = Beton.open(folder / "sound.beton")
    assert read_all(sound.path, "raise") == "read"  # compiles, if need be
    for number in range(count):
        path = folder / f"mutated-{number % 8}.beton"
        path.unlink(missing_ok=True)  # a new file: the old one may still be mapped
        path.write_bytes(mutate(content, rng, regions))
        name = f"mutation {number} of seed {seed}"
        with watch(name, terminal):
            outcome = read_all(path, "raise" if number % 2 else "replace")
        if outcome == "read":  # `data info --verify` sees whatever has changed
            beton = Beton.open(path)
            outcomes["same" if same_content(beton, sound) else "changed"] += 1
            assert (beton.compute_hash() == sound.noted_hash) == same_content(beton, sound), name
        elif outcome.startswith(("replaced", "refused")):
            outcomes[outcome.split()[0]] += 1
        else:
            assert path.name in outcome, f"{name}: {outcome}"
            outcomes["sample" if "sample" in outcome else "file"] += 1
    assert outcomes["refused"] <= count / 200, outcomes
    return outcomes


@by_each_decoder
def test_damaged_packed_files(tmp_path: Path, packed: tuple[bytes, list[tuple[int, int]]], terminal: IO[str]) -> None:
    outcomes = fuzz_packed(tmp_path, packed, 200, seed=0, terminal=terminal)
    assert min(outcomes[kind] for kind in ("file", "sample", "replaced", "same", "changed")) > 5, outcomes


@by_each_decoder
@pytest.mark.slow
def test_damaged_packed_files_at_length(
    tmp_path: Path, packed: tuple[bytes, list[tuple[int, int]]], terminal: IO[str]
) -> None:
    outcomes = fuzz_packed(tmp_path, packed, 10_000, seed=1, terminal=terminal)
    assert min(outcomes[kind] for kind in ("file", "sample", "replaced", "same", "changed")) > 100, outcomes


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


CHECKSUMMED = ("PNG", "palette")


def pixels_of(data: bytes) -> np.ndarray:
    """What Pillow reads, upright RGB, without any of our code; whatever it raises."""
    with Image.open(io.BytesIO(data)) as opened:
        image = ImageOps.exif_transpose(opened)
        return np.array((image.convert("RGBA") if image.mode in ("P", "PA", "La") else image).convert("RGB"))


def check_stored(stored: Stored, data: bytes, original: bytes, kind: str) -> str:
    """What was stored is what Pillow reads; what differs from the original behind a checksum is reported."""
    if not stored.changed:
        assert stored.payload == data
        assert stored.mode == JPEG
        pixels = np.empty(stored.height * stored.width * 3, np.uint8)
        decoder, place = decoders.chosen(), (np.frombuffer(data, np.uint8), 0, len(data))
        assert decoder is not None
        assert decoder.read(*place, stored.height, stored.width, pixels) == decode.OK
        difference = np.abs(pixels.reshape(stored.height, stored.width, 3).astype(int) - pixels_of(data))
        assert difference.max() <= 1
        return "kept"
    assert isinstance(stored.payload, np.ndarray)
    assert np.array_equal(stored.payload, pixels_of(data))
    if kind in CHECKSUMMED and not stored.damaged:
        assert np.array_equal(stored.payload, pixels_of(original)), "changed, and not reported"
    return "damaged" if stored.damaged else "converted"


def fuzz_image(kind: str, folder: Path, count: int, seed: int, terminal: IO[str]) -> Counter[str]:
    rng = np.random.default_rng(seed)
    content = IMAGES[kind]()
    outcomes: Counter[str] = Counter()
    for number in range(count):
        data = mutate(content, rng, [(0, len(content)), (0, min(200, len(content)))])
        (folder / "mutated").write_bytes(data)
        with watch(f"mutation {number} of seed {seed}", terminal):
            try:
                stored = encode(Picture("x", 0, data))
                if stored.changed and stored.mode == JPEG:  # the header says a larger image
                    stored = encode(Picture("x", 0, data), store="raw")
                outcome = check_stored(stored, data, content, kind)
                smaller = encode(Picture("x", 0, data), shorter_side=20)
                assert min(smaller.height, smaller.width) <= 20
            except Unreadable as error:
                outcome = "unreadable" if str(error) else ""
        assert outcome, f"mutation {number} of seed {seed}"
        outcomes[outcome] += 1
    return outcomes


@pytest.mark.filterwarnings("ignore")  # Pillow warns of what it finds odd
@pytest.mark.parametrize("kind", IMAGES)
def test_damaged_images(kind: str, tmp_path: Path, terminal: IO[str]) -> None:
    outcomes = fuzz_image(kind, tmp_path, 60, 0, terminal)
    assert outcomes["unreadable"] > 2, outcomes
    assert outcomes["unreadable"] < 60, outcomes


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", IMAGES)
def test_damaged_images_at_length(kind: str, tmp_path: Path, terminal: IO[str]) -> None:
    outcomes = fuzz_image(kind, tmp_path, 1000, 1, terminal)
    expected = {"PNG": ("unreadable", "damaged"), "baseline": ("unreadable", "damaged", "kept")}
    assert min(outcomes[outcome] for outcome in expected.get(kind, ("unreadable",))) > 5, outcomes
    assert outcomes.total() - outcomes["unreadable"] > 10, outcomes


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
    elif path.suffix == ".npy":
        np.save(path, np.stack([photograph(height=9, width=12)] * 6))
    elif path.suffix == ".npz":
        save = np.savez_compressed if path.stem == "compressed" else np.savez
        save(path, images=np.stack([photograph(height=9, width=12)] * 6), labels=np.arange(6) % 2)
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
@pytest.mark.parametrize("name", ["x.tar", "x.zip", "x.parquet", "x.npy", "x.npz", "compressed.npz"])
def test_damaged_archives(tmp_path: Path, name: str, terminal: IO[str]) -> None:
    """Refused with the file's name, or read image by image, each of which may be missing."""
    write_archive(tmp_path / name)
    content, suffix = (tmp_path / name).read_bytes(), Path(name).suffix
    rng = np.random.default_rng(0)
    outcomes: Counter[str] = Counter()
    for number in range(150):
        path = tmp_path / f"mutated{suffix}"
        path.unlink(missing_ok=True)
        path.write_bytes(mutate(content, rng, [(0, len(content))]))
        with watch(f"mutation {number}", terminal):
            outcome = read_archive(path)
        if outcome != "opened":
            assert str(tmp_path) in outcome, f"mutation {number}: {outcome}"
        outcomes["opened" if outcome == "opened" else "refused"] += 1
    assert min(outcomes["opened"], outcomes["refused"]) > 0, outcomes
