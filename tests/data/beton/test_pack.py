"""Packing: what is kept byte for byte, what is converted, what is refused, and that nothing half-written stays."""

from __future__ import annotations

import io
import os
import re
import struct
import subprocess
import sys
import threading
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from barlowctl.data.beton import decode, decoders, encode
from barlowctl.data.beton.layout import JPEG, RAW
from barlowctl.data.beton.pack import pack
from barlowctl.data.beton.reader import Beton
from barlowctl.data.images import limits
from barlowctl.data.images.unreadable import Unreadable
from barlowctl.data.sources import open_source
from barlowctl.data.sources.picture import Picture, Source
from barlowctl.errors import UserError


def scene(height: int = 150, width: int = 200) -> np.ndarray:
    """Smooth colours with an asymmetric mark: survives JPEG, shows rotations."""
    y, x = np.mgrid[0:height, 0:width]
    image = np.stack([x * 255 // width, y * 255 // height, (x + y) * 255 // (width + height)], axis=2).astype(np.uint8)
    image[: height // 4, : width // 4] = 255
    return image


def encoded(image: Image.Image, kind: str = "JPEG", **options) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def folder(path: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    return path


def packed(path: Path, files: dict[str, bytes], **options):
    """(report, opened file) of a folder of `files`."""
    report = pack(open_source(folder(path / "images", files)), path / "out.beton", **options)
    return report, Beton.open(path / "out.beton")


def fast_pixels(beton: Beton, index: int) -> np.ndarray:
    """One image through the decoder that the fast loader uses."""
    height, width = int(beton.heights[index]), int(beton.widths[index])
    out = np.empty(height * width * 3, dtype=np.uint8)
    start, size = int(beton.pointers[index]), int(beton.sizes[index])
    decoder = decoders.chosen()
    assert decoder is not None
    assert decoder.read(np.asarray(beton.bytes), start, size, height, width, out) == decode.OK
    return out.reshape(height, width, 3)


# ---- what is kept ----------------------------------------------------------------------------------------

FITTING = {
    "baseline": encoded(Image.fromarray(scene())),
    "progressive": encoded(Image.fromarray(scene()), progressive=True, quality=80),
    "not subsampled": encoded(Image.fromarray(scene()), subsampling=0),
    "grey": encoded(Image.fromarray(scene()).convert("L")),
    "odd size": encoded(Image.fromarray(scene(37, 41))),
    "1 x 1": encoded(Image.fromarray(scene(4, 4)).crop((0, 0, 1, 1))),
    "upright by EXIF": encoded(
        Image.fromarray(scene()), exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x01\0\0\0\0\0\0"
    ),
    "damaged EXIF": encoded(Image.fromarray(scene()), exif=b"Exif\0\0MM\0*\xff\xff\xff\xff"),
    "comment": encoded(Image.fromarray(scene()), comment=b"a remark"),
}


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize("kind", FITTING)
def test_fitting_jpeg_is_kept_byte_for_byte(tmp_path, kind):
    report, beton = packed(tmp_path, {"a.jpg": FITTING[kind]})
    assert beton.stored(0).tobytes() == FITTING[kind]
    assert (report.passed_through, report.encoded, report.raw, report.changed) == (1, 0, 0, {})
    assert report.channels == beton.channels == (1 if kind == "grey" else 3)
    expected = np.array(Image.open(io.BytesIO(FITTING[kind])).convert("RGB"))
    assert np.array_equal(beton.image(0), expected)
    assert np.abs(fast_pixels(beton, 0).astype(int) - expected).max() <= 1


def test_what_is_trusted_without_a_decoder(tmp_path, no_decoder):
    cut = FITTING["baseline"][:-400]
    report, beton = packed(tmp_path, {"a.jpg": FITTING["baseline"], "cut.jpg": cut})
    assert beton.stored(0).tobytes() == FITTING["baseline"]
    assert [name for name, _ in report.unreadable] == ["cut.jpg"]
    assert encode.checked_with() == "Pillow"


# ---- what is converted -----------------------------------------------------------------------------------


def rotated(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(Image.fromarray(scene()), quality=95, subsampling=0, exif=exif)


@pytest.mark.parametrize("orientation", range(2, 9))
def test_exif_rotation_is_applied(tmp_path, orientation):
    turns = {
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: np.rot90(a, -1),
        7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
        8: lambda a: np.rot90(a, 1),
    }
    report, beton = packed(tmp_path, {"a.jpg": rotated(orientation)})
    assert report.changed == {"EXIF rotation": 1}
    assert report.encoded == 1
    expected = turns[orientation](scene())
    assert (beton.heights[0], beton.widths[0]) == expected.shape[:2]
    assert np.abs(beton.image(0).astype(int) - expected).mean() < 2


def test_cmyk_jpeg(tmp_path):
    image = Image.fromarray(scene()).convert("CMYK")
    report, beton = packed(tmp_path, {"a.jpg": encoded(image, quality=95)})
    assert report.changed == {"CMYK JPEG": 1}
    assert np.abs(beton.image(0).astype(int) - np.array(image.convert("RGB"))).mean() < 3


def test_small_lossless_images_stay_lossless_and_large_ones_become_jpeg(tmp_path):
    small, large = scene(128, 128), scene(129, 128)
    files = {"a.png": encoded(Image.fromarray(small), "PNG"), "b.png": encoded(Image.fromarray(large), "PNG")}
    report, beton = packed(tmp_path, files)
    assert beton.modes.tolist() == [RAW, JPEG]
    assert np.array_equal(beton.image(0), small)
    assert np.abs(beton.image(1).astype(int) - large).mean() < 1
    assert (report.raw, report.encoded, report.changed) == (1, 1, {"not JPEG": 2})


def small(mode: str) -> tuple[bytes, np.ndarray]:
    """A PNG of a mode and the RGB pixels expected of it."""
    image = Image.fromarray(scene(20, 30))
    grey = np.array(image.convert("L"))
    as_rgb = np.repeat(grey[:, :, None], 3, axis=2)
    match mode:
        case "palette":
            value = image.quantize(16)
            return encoded(value, "PNG"), np.array(value.convert("RGB"))
        case "palette, transparent":
            value = image.quantize(16)
            alpha = np.array([0, 128] + [255] * 14)[np.array(value)][:, :, None] / 255  # of the palette's colours
            on_white = np.floor(alpha * np.array(value.convert("RGB")) + (1 - alpha) * 255 + 0.5)
            return encoded(value, "PNG", transparency=bytes([0, 128])), on_white.astype(np.uint8)
        case "grey":
            return encoded(Image.fromarray(grey), "PNG"), as_rgb
        case "grey with alpha":
            return encoded(Image.fromarray(grey).convert("LA"), "PNG"), as_rgb
        case "RGB with alpha":
            return encoded(image.convert("RGBA"), "PNG"), np.array(image)
        case "1 bit":
            value = Image.fromarray(grey).point(lambda v: 255 * (v > 100), "1")
            return encoded(value, "PNG"), np.repeat(np.where(grey > 100, 255, 0).astype(np.uint8)[:, :, None], 3, 2)
        case "16 bit":
            return encoded(Image.fromarray(grey.astype(np.uint16) * 257), "PNG"), as_rgb
        case _:
            return encoded(image, mode, **({"lossless": True} if mode == "WEBP" else {})), np.array(image)


DONE_TO = {  # what the report says
    "palette": "not JPEG: palette",
    "palette, transparent": "not JPEG: palette, transparency on white",
    "16 bit": "not JPEG: uint16, 0 to 65,535 as 8 bits",
}
GREY_MODES = ("grey", "grey with alpha", "1 bit", "16 bit")


@pytest.mark.parametrize(
    "mode", [*GREY_MODES, "palette", "palette, transparent", "RGB with alpha", "BMP", "TIFF", "WEBP", "PPM"]
)
def test_other_kinds_of_images(tmp_path, mode):
    content, expected = small(mode)
    report, beton = packed(tmp_path, {"a.png": content})
    assert np.array_equal(beton.image(0), expected)
    assert report.channels == (1 if mode in GREY_MODES else 3)
    assert report.changed == {DONE_TO.get(mode, "not JPEG"): 1}


def test_a_png_named_jpg_and_a_jpeg_named_png(tmp_path):
    png = encoded(Image.fromarray(scene(10, 10)), "PNG")
    _, beton = packed(tmp_path, {"a.jpg": png, "b.png": FITTING["baseline"]})
    assert np.array_equal(beton.image(0), scene(10, 10))
    assert beton.stored(1).tobytes() == FITTING["baseline"]


def test_16_bit_grey_uses_the_whole_range(tmp_path):
    levels = np.array([[0, 128, 129, 32768, 65406, 65407, 65535]], dtype=np.uint16)
    _, beton = packed(tmp_path, {"a.png": encoded(Image.fromarray(levels), "PNG")})
    assert beton.image(0)[0, :, 0].tolist() == [round(v / 257) for v in levels[0].tolist()]


def test_a_cmyk_tiff_turned_by_exif(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    image = Image.fromarray(scene(20, 30)).convert("CMYK")
    report, beton = packed(tmp_path, {"a.tif": encoded(image, "TIFF", exif=exif)})
    assert report.changed == {"not JPEG: EXIF rotation, CMYK to RGB": 1}
    assert np.array_equal(beton.image(0), np.rot90(np.array(image.convert("RGB")), -1))


@pytest.mark.parametrize("orientation", [3, 6])
def test_a_cmyk_jpeg_turned_by_exif_says_both(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = Image.fromarray(scene(20, 30)).convert("CMYK")
    report, beton = packed(tmp_path, {"a.jpg": encoded(image, quality=95, exif=exif)})
    assert report.changed == {"CMYK JPEG, EXIF rotation": 1}
    assert beton.heights[0] == (20 if orientation == 3 else 30)


def png_of_16_bits(kind: str, pixels: np.ndarray) -> bytes:
    """(H, W, C) uint16 as a PNG (PNG 1.2, 3 and 4.1); Pillow writes grey ones only."""
    height, width, channels = pixels.shape
    lines = b"".join(b"\0" + line.astype(">u2").tobytes() for line in pixels)
    header = struct.pack(">IIBBBBB", width, height, 16, {"RGB": 2, "LA": 4, "RGBA": 6}[kind], 0, 0, 0)
    assert channels == len(kind)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(lines)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in parts
    )


def tiff_of_16_bits(order: str, pixels: np.ndarray) -> bytes:
    """(H, W, 3) uint16 as an uncompressed TIFF (TIFF 6.0, section 6); `order` is "<" or ">"."""
    height, width, _ = pixels.shape
    bits, data = 8 + 2 + 9 * 12 + 4, 8 + 2 + 9 * 12 + 4 + 6
    short, long = (3, "HH2x"), (4, "HI")
    fields = [
        *((256, short, 1, width), (257, short, 1, height), (258, long, 3, bits), (259, short, 1, 1)),
        *((262, short, 1, 2), (273, long, 1, data), (277, short, 1, 3), (278, short, 1, height)),
        (279, long, 1, pixels.nbytes),
    ]
    out = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}IH", 8, len(fields))
    for tag, (kind, form), count, value in fields:
        kind = 3 if tag == 258 else kind
        out += struct.pack(f"{order}HHI{form[1:]}", tag, kind, count, value)
    return out + struct.pack(f"{order}IHHH", 0, 16, 16, 16) + pixels.astype(f"{order}u2").tobytes()


@pytest.mark.parametrize("kind", ["RGB", "RGBA", "LA", "TIFF <", "TIFF >", "PPM"])
def test_16_bit_colour_is_made_8_bits_and_said(tmp_path, kind):
    channels = {"LA": 2, "RGBA": 4}.get(kind, 3)
    pixels = np.random.default_rng(0).integers(0, 65536, (5, 7, channels), dtype=np.uint16)
    if kind == "PPM":
        content = b"P6 7 5 65535\n" + pixels.astype(">u2").tobytes()
    else:
        content = tiff_of_16_bits(kind[-1], pixels) if kind[:4] == "TIFF" else png_of_16_bits(kind, pixels)
    report, beton = packed(tmp_path, {"a.png": content})
    alpha = kind in ("LA", "RGBA")
    done = "uint16, 0 to 65,535 as 8 bits"
    assert report.changed == {f"not JPEG: {done}{', transparency on white' if alpha else ''}": 1}
    assert report.channels == (1 if kind == "LA" else 3)
    expected = (pixels[:, :, :1].repeat(3, axis=2) if kind == "LA" else pixels[:, :, :3]) / 257
    if alpha:
        share = pixels[:, :, -1:] / 65535
        expected = expected * share + 255 * (1 - share)
    assert np.abs(beton.image(0) - expected).max() <= (1.5 if alpha else 1)  # alpha is rounded too


@pytest.mark.parametrize("size", [(300, 400), (400, 300), (64, 900)])
def test_larger_images_are_made_smaller(tmp_path, size):
    files = {
        "a.jpg": encoded(Image.fromarray(scene(*size)), quality=95),
        "b.png": encoded(Image.fromarray(scene(*size)), "PNG"),
    }
    files["c.jpg"] = encoded(Image.fromarray(scene(50, 70)))
    report, beton = packed(tmp_path, files, shorter_side=50)
    expected = tuple(max(50, round(side * 50 / min(size))) for side in size)
    assert list(zip(beton.heights, beton.widths, strict=True)) == [expected, expected, (50, 70)]
    assert report.resized == 2
    assert report.changed == {"JPEG, made smaller": 1, "not JPEG, made smaller": 1}
    assert beton.stored(2).tobytes() == files["c.jpg"]
    assert beton.info["shorter_side"] == 50
    theirs = np.array(Image.fromarray(scene(*size)).resize(expected[::-1], Image.Resampling.LANCZOS)).astype(int)
    assert np.abs(beton.image(1) - theirs).mean() < 4


def test_a_killed_pack_leaves_nothing_under_the_name_and_starts_again(tmp_path):
    """SIGKILL in the middle: the partial file stays hidden, and the next run takes its place."""
    for number in range(40):
        Image.fromarray(scene(200, 200)).save(tmp_path / f"{number}.png")
    script = (
        "import sys, time, barlowctl.data.beton.pack as p; from barlowctl.data.sources import open_source\n"
        "def slow(n): sys.stdout.write('x'); sys.stdout.flush(); time.sleep(0.1)\n"
        "p.pack(open_source(sys.argv[1]), sys.argv[2], progress=slow)"
    )
    out = tmp_path / "out" / "x.beton"
    with subprocess.Popen([sys.executable, "-c", script, str(tmp_path), str(out)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.read(5) == b"xxxxx"
        process.kill()
    assert [file.name for file in out.parent.iterdir()] == [".x.beton.partial"]
    report = pack(open_source(tmp_path), out)
    assert report.samples == 40
    assert [file.name for file in out.parent.iterdir()] == ["x.beton"]
    assert Beton.open(out).compute_hash() == report.content_hash


def test_store_and_quality(tmp_path):
    files = {"a.jpg": FITTING["baseline"], "b.png": encoded(Image.fromarray(scene(16, 16)), "PNG")}
    report, beton = packed(tmp_path / "raw", files, store="raw")
    assert beton.modes.tolist() == [RAW, RAW]
    assert np.array_equal(beton.image(0), np.array(Image.open(io.BytesIO(files["a.jpg"]))))
    assert (report.raw, report.changed) == (2, {"JPEG, decoded": 1, "not JPEG": 1})
    _, beton = packed(tmp_path / "jpeg", files, store="jpeg")
    assert beton.modes.tolist() == [JPEG, JPEG]
    _, worse = packed(tmp_path / "worse", files, store="jpeg", quality=10)
    assert worse.sizes[1] < beton.sizes[1]
    assert worse.sizes[0] == beton.sizes[0]


def test_arrays_grey_and_rgb(tmp_path):
    rgb, grey = scene(8, 9), scene(8, 9)[:, :, 0]
    for name, pixels, channels in (("rgb", rgb, 3), ("grey", grey, 1)):
        report = pack(Listed([Picture("x", 4, pixels)]), tmp_path / f"{name}.beton")
        beton = Beton.open(tmp_path / f"{name}.beton")
        assert np.array_equal(beton.image(0), pixels if channels == 3 else np.repeat(grey[:, :, None], 3, axis=2))
        assert (report.channels, beton.channels, beton.labels[0]) == (channels, channels, 4)


# ---- what is refused -------------------------------------------------------------------------------------


class Listed(Source):
    """Pictures from a list; an exception in the list is raised when its turn comes."""

    kind, path, split, class_names = "a list", Path("list"), "train", []

    def __init__(self, pictures) -> None:
        self.pictures = pictures

    def __len__(self) -> int:
        return len(self.pictures)

    def describe(self, index):
        return f"picture {index}", getattr(self.pictures[index], "label", -1)

    def __getitem__(self, index):
        if isinstance(self.pictures[index], Exception):
            raise self.pictures[index]
        return self.pictures[index]


BAD = {
    "class/truncated.jpg": FITTING["baseline"][: len(FITTING["baseline"]) // 2],
    "class/header only.jpg": FITTING["baseline"][:30],
    "class/empty.jpg": b"",
    "class/text.jpg": b"this is no image",
    "class/ünï.png": encoded(Image.fromarray(scene()), "PNG")[:500],
}


def test_unreadable_images_are_skipped_and_named(tmp_path):
    report, beton = packed(tmp_path, BAD | {"class/good.jpg": FITTING["baseline"]}, workers=3)
    assert sorted(name for name, _ in report.unreadable) == sorted(BAD)
    assert all(reason for _, reason in report.unreadable)
    assert report.samples == beton.num_samples == 1
    assert [name for name, _ in beton.info["skipped"]] == [name for name, _ in report.unreadable]
    assert beton.info["counts"]["skipped"] == 5
    assert beton.labels.tolist() == [0]


@pytest.mark.parametrize("name", BAD)
def test_unreadable_image_stops_when_asked(tmp_path, name):
    source = open_source(folder(tmp_path / "images", {"class/a.jpg": FITTING["baseline"], name: BAD[name]}))
    with pytest.raises(UserError, match="cannot be read") as caught:
        pack(source, tmp_path / "out.beton", on_unreadable="fail")
    assert name in caught.value.message
    assert sorted(os.listdir(tmp_path)) == ["images"]


@pytest.mark.parametrize("workers", [1, 3])
def test_where_it_stops_the_others_are_counted(tmp_path, monkeypatch, workers):
    good = {f"class/{name}.jpg": FITTING["baseline"] for name in "acdef"}
    bad = {f"class/{name}.jpg": b"no image" for name in ("b", "d", "f")}
    source = open_source(folder(tmp_path / "images", good | bad))
    for ending, seconds in (("of the next 4 images 2 cannot either", 5.0), ("; the next 1 image can", 0.0)):
        monkeypatch.setattr("barlowctl.data.beton.encoded.LOOK_ON", seconds)
        with pytest.raises(UserError, match=r"class/b.jpg cannot be read") as caught:
            pack(source, tmp_path / "out.beton", on_unreadable="fail", workers=workers)
        assert caught.value.message.endswith(ending)
        assert sorted(os.listdir(tmp_path)) == ["images"]


def test_nothing_readable(tmp_path):
    with pytest.raises(UserError, match=r"none of the 5 images .*class/empty"):
        packed(tmp_path, BAD)
    assert sorted(os.listdir(tmp_path)) == ["images"]


def test_flipped_bits_are_reported_as_damage(tmp_path, decoder):
    content = bytearray(FITTING["baseline"])
    middle = len(content) * 2 // 3
    content[middle : middle + 40] = bytes(40)
    report, beton = packed(tmp_path, {"a.jpg": FITTING["baseline"], "flipped.jpg": bytes(content)})
    assert report.damaged + [name for name, _ in report.unreadable] == ["flipped.jpg"]
    assert encode.checked_with() == decoder.package
    for i in range(beton.num_samples):
        fast_pixels(beton, i)


@pytest.mark.parametrize("orientation", [1, 6])
def test_damage_is_reported_whatever_else_is_done(tmp_path, orientation, decoder):
    content = bytearray(rotated(orientation))
    content[-3000:-2900] = bytes(range(100))
    report, _ = packed(tmp_path, {"a.jpg": rotated(orientation), "bad.jpg": bytes(content)})
    assert report.damaged == ["bad.jpg"]
    turned = ", EXIF rotation" if orientation == 6 else ""
    assert report.changed[f"damaged JPEG{turned}"] == 1


@pytest.mark.parametrize("length", [1, 64])
def test_a_quantization_table_with_zeros_is_never_kept(tmp_path, length):
    """The loader's decoder makes grey of it without a word."""
    content = bytearray(FITTING["baseline"])
    table = content.index(b"\xff\xdb", content.index(b"\xff\xdb") + 2)
    content[table + 5 : table + 5 + length] = bytes(length)
    report, _ = packed(tmp_path, {"a.jpg": FITTING["baseline"], "bad.jpg": bytes(content)})
    assert report.passed_through == 1
    assert report.damaged + [name for name, _ in report.unreadable] == ["bad.jpg"]


def test_a_png_whose_pixels_end_early_is_unreadable(tmp_path):
    """Looking for EXIF data loads a PNG; what is wrong with it must not get lost there."""
    pixels = np.random.default_rng(0).integers(0, 65536, (20, 30, 3), dtype=np.uint16)
    whole = png_of_16_bits("RGB", pixels)
    start = whole.index(b"IDAT") - 4
    data = whole[start + 8 : -16][:900]
    part = struct.pack(">I", len(data)) + b"IDAT" + data + struct.pack(">I", zlib.crc32(b"IDAT" + data))
    report, _ = packed(tmp_path, {"a.png": whole, "bad.png": whole[:start] + part + whole[-12:]})
    assert [name for name, _ in report.unreadable] == ["bad.png"]


def test_a_png_is_held_against_its_checksums(tmp_path):
    """Pillow notices most of what may happen to pixels, but not in the last of them, nor that the end is missing."""
    pixels = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8) // 3
    content = encoded(Image.fromarray(pixels), "PNG")
    reported = 0
    for place in range(len(content) - 60, len(content) - 16):
        for bit in range(8):
            changed = bytearray(content)
            changed[place] ^= 1 << bit
            try:
                stored = encode.encode(Picture("x", 0, bytes(changed)))
            except Unreadable:
                continue
            assert stored.damaged
            assert stored.changed == "not JPEG: damaged"
            reported += not np.array_equal(stored.payload, pixels)
    assert reported > 0
    report, _ = packed(tmp_path, {"a.png": content, "b.png": content[:-12]})
    assert report.damaged == ["b.png"]


def test_too_wide_an_image_is_named(tmp_path):
    wide = Picture("wide", -1, np.zeros((1, 65536, 3), np.uint8))
    report = pack(Listed([wide, Picture("x", 0, scene(4, 4))]), tmp_path / "a.beton")
    assert report.unreadable == [
        (
            "picture 0",
            "65536 x 1 pixels, and at most 268,435,456 an image and 65,535 a side are read; make it smaller, or cut it "
            "into tiles",
        )
    ]


def claiming(width: int, height: int) -> bytes:
    """A JPEG of 16 x 16 pixels, some 600 bytes, whose header says another size."""
    content = bytearray(encoded(Image.new("RGB", (16, 16))))
    frame = content.index(b"\xff\xc0")
    content[frame + 5 : frame + 9] = height.to_bytes(2) + width.to_bytes(2)
    return bytes(content)


BOMBS = {
    "a.jpg": (claiming(6000, 6000), r"says 6000x6000 pixels, which \d+ bytes cannot hold"),
    "b.jpg": (claiming(15000, 15000), "says 15000x15000 pixels"),
    "c.jpg": (claiming(65500, 65500), "65500 x 65500 pixels, and at most 268,435,456"),
    "d.jpg": (claiming(65500, 65500).replace(b"\xff\xc0", b"\xff\xc9"), "at most 268,435,456"),  # arithmetic coding
    "e.bmp": (
        encoded(Image.new("1", (8, 8)), "BMP").replace(bytes([8, 0, 0, 0]) * 2, b"\0\0\1\0" * 2),
        "at most 268,435,456",
    ),
}
WATCHED = """
import resource, sys, time
from barlowctl.data.beton.encode import encode
from barlowctl.data.images.pixels import decode_picture
from barlowctl.data.images.unreadable import Unreadable
from barlowctl.data.sources.picture import Picture
limit = 8 << 30
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
for path in sys.argv[1:]:
    data = open(path, "rb").read()
    before, cpu = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    for read in (lambda: encode(Picture("x", 0, data)), lambda: decode_picture(data)):
        try:
            print("read:", read())
        except Unreadable as error:
            print("unreadable:", error)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, time.process_time() - cpu)
"""


@pytest.fixture(scope="module")
def watched(tmp_path_factory):
    """Of each bomb, three lines: what both ways to read it say, and the memory and time that they took."""
    folder = tmp_path_factory.mktemp("bombs")
    for name, (content, _) in BOMBS.items():
        (folder / name).write_bytes(content)
    command = [sys.executable, "-c", WATCHED, *(str(folder / name) for name in BOMBS)]
    done = subprocess.run(command, capture_output=True, text=True)
    lines = done.stdout.splitlines()
    assert len(lines) == 3 * len(BOMBS), done.stdout + done.stderr
    return {name: lines[3 * place : 3 * place + 3] for place, name in enumerate(BOMBS)}


@pytest.mark.parametrize("name", BOMBS)
def test_a_size_that_cannot_be_is_refused_before_decoding(name, watched):
    *lines, spent = watched[name]
    assert all(line.startswith("unreadable:") and re.search(BOMBS[name][1], line) for line in lines), lines
    kilobytes, seconds = map(float, spent.split())
    assert kilobytes < 60_000
    assert seconds < 2


def test_an_image_the_loader_would_refuse_is_left_out_of_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "MAX_PIXELS", 200 * 150)
    larger = scene(201, 150)
    files = {"a.jpg": FITTING["baseline"], "b.jpg": encoded(Image.fromarray(larger))}
    report, _ = packed(tmp_path, files | {"c.png": encoded(Image.fromarray(larger), "PNG")})
    assert [name for name, _ in report.unreadable] == ["b.jpg", "c.png"]
    with pytest.raises(Unreadable, match="at most 30,000 an image"):
        encode.encode(Picture("x", 0, larger))
    with pytest.raises(Unreadable, match="at most 30,000 an image"):  # alike, whatever becomes of it
        encode.encode(Picture("x", 0, larger), shorter_side=100)


def test_a_flat_jpeg_as_small_as_its_kind_can_be_is_kept(tmp_path):
    flat = Image.new("L", (4000, 3000), 128)
    files = {"a.jpg": encoded(flat, quality=1, optimize=True), "b.jpg": encoded(flat, quality=1, progressive=True)}
    report, _ = packed(tmp_path, files)
    assert report.passed_through == 2


def test_a_file_that_vanishes_is_unreadable(tmp_path):
    source = open_source(folder(tmp_path / "images", {"a.jpg": FITTING["baseline"], "b.jpg": FITTING["grey"]}))
    (tmp_path / "images" / "a.jpg").unlink()
    report = pack(source, tmp_path / "out.beton")
    assert report.unreadable == [("a.jpg", "No such file or directory")]


def test_bad_options(tmp_path):
    source = Listed([Picture("x", 0, scene(4, 4))])
    for options in ({"workers": 0}, {"store": "png"}, {"quality": 0}, {"on_unreadable": "ignore"}):
        with pytest.raises(UserError, match=str(next(iter(options.values())))):
            pack(source, tmp_path / "a.beton", **options)
    assert os.listdir(tmp_path) == []


# ---- order, threads, atomicity ---------------------------------------------------------------------------


def test_result_does_not_depend_on_the_number_of_threads(tmp_path):
    sizes = np.random.default_rng(1).integers(4, 150, (60, 2))
    kinds = ("JPEG", "PNG")
    files = {
        f"c{i % 3}/{i:03}.jpg": encoded(Image.fromarray(scene(*size)), kinds[i % 2]) for i, size in enumerate(sizes)
    }
    files["c2/005.jpg"] = b"broken"
    opened = []
    for workers in (1, 2, 7):
        report, beton = packed(tmp_path / str(workers), files, workers=workers)
        assert report.samples == 59
        opened.append(beton)
    assert len({beton.content_hash for beton in opened}) == 1
    assert opened[0].compute_hash() == opened[0].content_hash
    assert opened[0].labels.tolist() == sorted(opened[0].labels.tolist())
    assert opened[0].class_names == ["c0", "c1", "c2"]


def test_a_bounded_number_of_pictures_is_under_way(tmp_path):
    class Counting(Listed):
        ahead, written, lock = 0, 0, threading.Lock()

        def __getitem__(self, index):
            with self.lock:
                self.ahead = max(self.ahead, index - self.written)
            return super().__getitem__(index)

    source = Counting([Picture("x", 0, scene(4, 4))] * 300)

    def progress(n: int) -> None:
        source.written += n

    pack(source, tmp_path / "a.beton", workers=3, progress=progress)
    assert source.written == 300
    assert 3 <= source.ahead <= 12


@pytest.mark.parametrize("error", [RuntimeError("midway"), KeyboardInterrupt()])
def test_an_exception_midway_leaves_nothing(tmp_path, error):
    class Failing(Listed):
        def __getitem__(self, index):
            if index == 20:
                raise error
            return super().__getitem__(index)

    source = Failing([Picture("x", 0, scene(4, 4))] * 50)
    with pytest.raises(type(error)):
        pack(source, tmp_path / "a.beton", workers=2)
    assert os.listdir(tmp_path) == []
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("pack")]


def test_existing_file_is_refused_and_kept(tmp_path):
    source = Listed([Picture("x", 0, scene(4, 4))])
    first = pack(source, tmp_path / "deep" / "er" / "a.beton").content_hash
    with pytest.raises(UserError, match="exists already"):
        pack(source, tmp_path / "deep" / "er" / "a.beton")
    assert pack(source, tmp_path / "deep" / "er" / "a.beton", overwrite=True).content_hash == first


def test_full_disk_is_said_and_leaves_nothing(tmp_path):
    code = (
        "import resource, sys, pathlib, numpy as np\n"
        "sys.path.insert(0, sys.argv[1])\n"
        "from tests.data.beton.test_pack import Listed, Picture\n"
        "from barlowctl.data.beton.pack import pack\n"
        "from barlowctl.errors import UserError\n"
        "limit = 12 << 20\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))\n"
        "picture = Picture('x', 0, np.zeros((500, 500, 3), np.uint8))\n"
        "try:\n"
        "    pack(Listed([picture] * 100), sys.argv[2], store='raw')\n"
        "except UserError as error:\n"
        "    print(error.message)\n"
    )
    root = str(Path(__file__).resolve().parents[2])
    done = subprocess.run(
        [sys.executable, "-c", code, root, str(tmp_path / "a.beton")], capture_output=True, text=True, cwd=root
    )
    assert re.search(r"after [1-9]\d* of 100 images: File too large; nothing was kept", done.stdout), done.stderr
    assert os.listdir(tmp_path) == []


def test_unwritable_folder_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        pack(Listed([Picture("x", 0, scene(4, 4))]), tmp_path / "file" / "a.beton")
