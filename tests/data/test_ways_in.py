"""Every way in makes the same pixels of an image, or refuses it with the same words."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from barlowctl.data.beton.pack import pack
from barlowctl.data.beton.reader import Beton
from barlowctl.data.images import limits
from barlowctl.data.images.pillow_reader import open_image
from barlowctl.data.images.pixels import decode_picture
from barlowctl.data.images.unreadable import Unreadable, UnreadableImage
from barlowctl.data.loaders.plain import Pictures
from barlowctl.data.sources import open_source
from tests.data.beton.test_pack import png_of_16_bits

H, W = 20, 30
_Y, _X = np.mgrid[0:H, 0:W]
SCENE = np.stack([8 * _X, 12 * _Y, 4 * (_X + _Y)], axis=2).astype(np.uint8)  # nothing of it is symmetric
GREY = SCENE[..., 2]
ALPHA = (9 * _X % 256).astype(np.uint8)


def saved(image: Image.Image | np.ndarray, kind: str, **how: object) -> bytes:
    stream = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(stream, kind, **how)  # type: ignore[arg-type]
    return stream.getvalue()


def tiff(values: np.ndarray, **how: object) -> bytes:
    stream = io.BytesIO()
    tifffile.imwrite(stream, values, **how)  # type: ignore[arg-type]
    return stream.getvalue()


def turned(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def scaled(values: np.ndarray, high: float) -> np.ndarray:
    """The formula, in floats: round(255 v / high)."""
    return np.floor(np.clip(values.astype(float), 0, high) * 255 / high + 0.5).astype(np.uint8)


def on_white(pixels: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    share = alpha[..., None].astype(float) / 255
    return np.floor(pixels * share + 255 * (1 - share) + 0.5).astype(np.uint8)


def rgb(grey: np.ndarray) -> np.ndarray:
    return np.repeat(grey[..., None], 3, axis=2)


DEEP = GREY.astype(np.uint16) * 13 + 7  # up to 2,502: 12 bits
DEEP_RGB = SCENE.astype(np.uint16) * 13 + 7
CMYK = Image.fromarray(SCENE).convert("CMYK")
EXTRA = np.dstack([SCENE, GREY])
GIVEN: dict[str, tuple[bytes, np.ndarray]] = {
    "12 bits in a PNG": (saved(DEEP, "PNG"), rgb(scaled(DEEP, 4095))),
    "12 bits in a colour PNG": (png_of_16_bits("RGB", DEEP_RGB), scaled(DEEP_RGB, 4095)),
    "12 bits in a colour TIFF": (tiff(DEEP_RGB, photometric="rgb", byteorder=">"), scaled(DEEP_RGB, 4095)),
    "deflated": (tiff(DEEP_RGB, photometric="rgb", compression="zlib"), scaled(DEEP_RGB, 4095)),
    "LZW": (saved(DEEP, "TIFF", compression="tiff_lzw"), rgb(scaled(DEEP, 4095))),
    "planes": (tiff(np.moveaxis(DEEP_RGB, 2, 0), photometric="rgb", planarconfig="separate"), scaled(DEEP_RGB, 4095)),
    "8 bits in 32": (tiff(GREY.astype(np.int32)), rgb(GREY)),
    "floats to 1": (tiff((GREY / 255).astype(np.float32)), rgb(GREY)),
    "floats to 255": (tiff(GREY.astype(np.float64)), rgb(GREY)),
    "0 is white": (tiff(GREY, photometric="miniswhite"), rgb(255 - GREY)),
    "alpha": (saved(np.dstack([SCENE, ALPHA]), "PNG"), on_white(SCENE, ALPHA)),
    "grey with alpha": (saved(np.dstack([GREY, ALPHA]), "PNG"), on_white(rgb(GREY), ALPHA)),
    "WebP with alpha": (
        saved(np.dstack([SCENE, ALPHA]), "WEBP", lossless=True, exact=True),
        on_white(SCENE, ALPHA),
    ),
    "TIFF with alpha": (
        tiff(np.dstack([SCENE, ALPHA]), photometric="rgb", extrasamples=["unassalpha"]),
        on_white(SCENE, ALPHA),
    ),
    "one transparent grey": (
        saved(GREY, "PNG", transparency=int(GREY[3, 4])),
        rgb(np.where(int(GREY[3, 4]) == GREY, 255, GREY)),
    ),
    "a fourth band": (tiff(EXTRA, photometric="rgb", extrasamples=["unspecified"]), SCENE),
    "turned PNG": (saved(SCENE, "PNG", exif=turned(6)), np.rot90(SCENE, -1)),
    "turned TIFF": (saved(SCENE, "TIFF", exif=turned(8)), np.rot90(SCENE, 1)),
    "turned 12 bits": (
        tiff(DEEP, extratags=[(274, "H", 1, 5, True)]),
        rgb(scaled(DEEP, 4095)).swapaxes(0, 1),
    ),
    "turned 12 bits in a PNG": (saved(DEEP, "PNG", exif=turned(7)), rgb(scaled(DEEP, 4095))[::-1, ::-1].swapaxes(0, 1)),
    "CMYK": (saved(CMYK, "TIFF"), np.array(CMYK.convert("RGB"))),
}  # fmt: skip
BANDS = "bands of {}, and it does not say which are red, green and blue; choose three, or one for grey, e.g. --bands"
REFUSED: dict[str, tuple[bytes, str]] = {
    "13 bands": (
        tiff(np.dstack([DEEP] * 13), photometric="minisblack", planarconfig="contig"),
        f"a TIFF of 13 {BANDS.format('uint16')} 4,3,2",
    ),
    "2 bands": (
        tiff(np.dstack([GREY] * 2), photometric="minisblack", planarconfig="contig"),
        f"a TIFF of 2 {BANDS.format('uint8')} 1",
    ),
    "below zero": (
        tiff(DEEP.astype(np.int16) - 1000),
        "int16 values -993 to 1,503 of this image: which are black and white is not known; set the range, e.g. "
        "-993:1503",
    ),
    "floats to 2": (tiff((GREY / 100).astype(np.float32)), "float32 values 0 to 1.92"),
    "large numbers": (tiff(DEEP.astype(np.uint32) * 1000), "uint32 values 7,000 to 2,503,000"),
    "13 bands, cut short": (
        tiff(np.dstack([DEEP] * 13), photometric="rgb", planarconfig="contig", compression="zlib")[:-300],
        "a TIFF of 13 bands of uint16, cut short or damaged",
    ),
    "complex": (tiff(DEEP.astype(np.complex64)), "band of complex64"),
    "too large": (saved(np.zeros((40, 50, 3), np.uint8), "PNG"), "50 x 40 pixels, and at most 1,500 an image"),
    "too large a JPEG": (saved(np.zeros((40, 50, 3), np.uint8), "JPEG"), "50 x 40 pixels, and at most 1,500 an image"),
    "too large a TIFF": (tiff(np.zeros((40, 50), np.uint16)), "50 x 40 pixels, and at most 1,500 an image"),
    "cut short": (saved(SCENE, "PNG")[:60], "image file is truncated"),
    "a rare kind": (
        tiff(np.dstack([SCENE, GREY, ALPHA]), photometric="separated", extrasamples=["unassalpha"]),
        "an image that is damaged or of a rare kind",
    ),
    "its head alone": (saved(SCENE, "PNG")[:12], "an image that is damaged or of a rare kind"),
    "empty": (b"", "an empty file (0 bytes)"),
    "text": (b"no picture at all", "not an image of a known kind"),
}


def folder(files: dict[str, bytes], where: Path) -> Path:
    for name, data in files.items():
        (where / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        (where / "images" / name).write_bytes(data)
    return where / "images"


def tar(files: dict[str, bytes], where: Path) -> Path:
    with tarfile.open(where / "images.tar", "w") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return where / "images.tar"


def zipped(files: dict[str, bytes], where: Path) -> Path:
    with zipfile.ZipFile(where / "images.zip", "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return where / "images.zip"


def parquet(files: dict[str, bytes], where: Path) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"image": pa.array(list(files.values()), pa.binary())}), where / "images.parquet")
    return where / "images.parquet"


MAKERS: dict[str, Callable[[dict[str, bytes], Path], Path]] = {
    "folder": folder, "tar": tar, "zip": zipped, "Parquet": parquet,
}  # fmt: skip


def ways(files: dict[str, bytes], where: Path) -> list[tuple[str, np.ndarray | str]]:
    """The pixels of the first file, or why it cannot be read, by every way in."""
    pixels_by_way: list[tuple[str, np.ndarray | str]] = []
    for maker, make in MAKERS.items():
        source = open_source(make(files, where))
        try:
            pixels_by_way.append((f"{maker}, plain", Pictures(source).image(0)))
        except UnreadableImage as error:
            pixels_by_way.append((f"{maker}, plain", error.reason))
        for options in ({"store": "raw"}, {"store": "raw", "shorter_side": H}, {"store": "raw", "shorter_side": 10}):
            out = where / "out.beton"
            report = pack(source, out, overwrite=True, **options)  # type: ignore[arg-type]
            if report.unreadable:
                pixels_by_way.append((f"{maker}, packed {options}", report.unreadable[0][1]))
            elif options.get("shorter_side") != 10:
                pixels_by_way.append((f"{maker}, packed {options}", Beton.open(out).image(0)))
    return pixels_by_way


GOOD = {"z.png": saved(SCENE, "PNG")}  # so that there is something to pack


@pytest.mark.parametrize("kind", GIVEN)
def test_the_same_pixels(kind: str, tmp_path: Path) -> None:
    data, expected = GIVEN[kind]
    for way, pixels in ways({"a.png": data, **GOOD}, tmp_path):
        assert not isinstance(pixels, str), (way, pixels)
        assert np.array_equal(pixels, expected), way


@pytest.mark.parametrize("kind", REFUSED)
def test_the_same_words(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    data, start = REFUSED[kind]
    monkeypatch.setattr(limits, "MAX_PIXELS", 1500)
    reasons = {reason if isinstance(reason, str) else way for way, reason in ways({"a.png": data, **GOOD}, tmp_path)}
    assert len(reasons) == 1
    assert start in reasons.pop()
    assert capfd.readouterr() == ("", "")  # nothing of other libraries' without the name of a file


def test_a_broken_compression_says_nothing_without_the_files_name(capfd: pytest.CaptureFixture[str]) -> None:
    """libtiff writes to standard error by itself."""
    noise = np.random.default_rng(0).integers(0, 256, (50, 50, 3), dtype=np.uint8)
    whole = saved(noise, "TIFF", compression="tiff_lzw")
    refused = 0
    for start in range(200, 3000, 400):
        try:
            decode_picture(whole[:start] + bytes(300) + whole[start + 300 :])
        except Unreadable:
            refused += 1
    assert refused > 0
    assert capfd.readouterr() == ("", "")


def test_a_compression_without_its_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Zstandard by its header alone: the package that would write it is the one that is missing."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    data = bytearray(tiff(np.dstack([DEEP] * 5), photometric="rgb", planarconfig="contig", compression="zlib"))
    at = data.index(bytes([3, 1, 3, 0, 1, 0, 0, 0]))  # tag Compression, one SHORT
    data[at + 8 : at + 10] = (50000).to_bytes(2, "little")  # Zstandard
    with pytest.raises(Unreadable, match=r"compressed with ZSTD, .* pip install 'barlowctl\[tiff\]'"):
        decode_picture(bytes(data))


def test_pillows_own_limit_is_ours(recwarn: pytest.WarningsRecorder) -> None:
    """Pillow warns at 89 million pixels and refuses 179 million; the loader reads 268 million."""
    with open_image(saved(Image.new("1", (14000, 13500)), "PNG")) as opened:
        assert opened.size == (14000, 13500)
    assert not recwarn.list
