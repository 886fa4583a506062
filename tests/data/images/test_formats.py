"""What a file is, by its name and by its content."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, features

from barlowctl.data.images import formats, readers
from barlowctl.data.images.pixels import decode_picture
from barlowctl.data.images.unreadable import Unreadable


def encoded(kind: str, mode: str = "RGB", **how: object) -> bytes:
    if kind == "QOI":  # Pillow writes it since 12: here each pixel is a QOI_OP_RGB
        size = b"".join(side.to_bytes(4) for side in (20, 10))
        return b"qoif" + size + b"\x03\x00" + 200 * b"\xfe\xc8\x64\x32" + bytes(7) + b"\x01"
    stream = io.BytesIO()
    Image.new(mode, (20, 10), 200 if mode == "L" else (200, 100, 50)).save(stream, kind, **how)
    return stream.getvalue()


def box(brand: bytes, *others: bytes) -> bytes:
    content = b"ftyp" + brand + bytes(4) + b"".join(others)
    return (4 + len(content)).to_bytes(4) + content + bytes(100)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.jpg", formats.IMAGE),
        ("a/b.c/X.JPEG", formats.IMAGE),
        ("a.jfif", formats.IMAGE),
        ("a.pjpeg", formats.IMAGE),
        ("a.dib", formats.IMAGE),
        ("a.TGA", formats.IMAGE),
        ("a.jp2", formats.JPEG_2000),
        ("a.j2k", formats.JPEG_2000),
        ("a.avif", formats.AVIF),
        ("a.HEIC", formats.HEIC),
        ("a.heif", formats.HEIC),
        ("a.CR2", formats.RAW),
        ("a.nef", formats.RAW),
        ("a.dng", formats.RAW),
        ("a.psd", formats.PHOTOSHOP),
        ("a.svg", formats.DRAWING),
        ("a.pdf", formats.PDF),
        ("a.dcm", formats.DICOM),
        ("a.nii.gz", formats.NIFTI),
        ("a.nii", formats.NIFTI),
        ("a.svs", formats.SLIDE),
        ("a.czi", formats.MICROSCOPE),
        ("a.lsm", formats.MICROSCOPE),
        ("a.LIF", formats.MICROSCOPE),
        ("a.mp4", formats.VIDEO),
        ("a.tar.gz", formats.ARCHIVE),
        ("a.txt", formats.DOCUMENT),
        ("a.jpg~", formats.LEFTOVER),
        ("a.jpg.part", formats.LEFTOVER),
        ("photo", None),
        ("a.jpg_large", None),
        ("a.jpeg.1", None),
        ("dir.jpg/x", None),
        ("a.jpg?w=200", None),
        ("...", None),
        ("", None),
    ],
)
def test_by_ending(name, kind):
    assert formats.by_ending(name) is kind


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "PCX", "QOI"])
def test_images_by_content(kind):
    assert formats.by_content(encoded(kind)[: formats.HEAD]) is formats.IMAGE
    assert np.abs(decode_picture(encoded(kind))[0].astype(int) - (200, 100, 50)).max() < 6


def test_newer_images_by_content():
    two_thousand = {"jp2": encoded("JPEG2000"), "j2k": encoded("JPEG2000", no_jp2=True)}
    for data in two_thousand.values():
        assert formats.by_content(data[: formats.HEAD]) is formats.JPEG_2000
        assert decode_picture(data)[0].shape == (10, 20, 3)
    if formats.readable(formats.AVIF):
        data = encoded("AVIF", quality=95)
        assert formats.by_content(data[: formats.HEAD]) is formats.AVIF
        assert np.abs(decode_picture(data)[0].astype(int) - (200, 100, 50)).max() < 6


def test_a_pillow_that_does_not_know_avif_is_asked_nothing(monkeypatch):
    """Before 11.3 it warns that the feature is unknown."""
    monkeypatch.delitem(features.modules, "avif", raising=False)
    readers._pillow_has.cache_clear()
    try:
        assert not formats.readable(formats.AVIF)
    finally:
        readers._pillow_has.cache_clear()


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (box(b"heic", b"mif1", b"heic"), formats.HEIC),
        (box(b"mif1", b"mif1", b"heic"), formats.HEIC),
        (box(b"heix"), formats.HEIC),
        (box(b"mif1", b"avif", b"mif1"), formats.AVIF),
        (box(b"isom", b"mp41"), formats.VIDEO),
        (box(b"qt  "), formats.VIDEO),
        (box(b"crx "), formats.RAW),
        (b"8BPS" + bytes(30), formats.PHOTOSHOP),
        (bytes(128) + b"DICM", formats.DICOM),
        (bytes(344) + b"n+1\0", formats.NIFTI),
        (b"%PDF-1.7", formats.PDF),
        (b"<?xml version='1.0'?>\n<svg xmlns=", formats.DRAWING),
        (b"II*\0\x10\0\0\0CR\2\0", formats.RAW),
        (b"PK\3\4", formats.ARCHIVE),
        (b"hello world", None),
        (b"", None),
        (b"BMW is a car", None),
        (bytes(352), None),
        (b"P5 is text", None),
        (b"P5\n# a comment\n4 4\n255\n", formats.IMAGE),
        (b"P", None),
        (b"\n", None),
    ],
)
def test_by_content(head, kind):
    assert formats.by_content(head) is kind


def test_heic_is_read_where_pillow_heif_is():
    heif = pytest.importorskip("pillow_heif")
    assert formats.readable(formats.HEIC)
    with pytest.raises(Unreadable, match="a damaged HEIC image"):
        decode_picture(box(b"heic", b"mif1"))
    pixels = np.zeros((40, 60, 3), np.uint8)
    pixels[:20, :, 0] = 250  # the upper half is red
    turned, stream = Image.Exif(), io.BytesIO()
    turned[0x0112] = 6  # to be turned a quarter clockwise: the left half was down
    heif.from_pillow(Image.fromarray(pixels)).save(stream, exif=turned.tobytes(), quality=95)
    assert formats.by_content(stream.getvalue()[: formats.HEAD]) is formats.HEIC
    pixels = decode_picture(stream.getvalue())[0]
    assert pixels.shape == (60, 40, 3)
    assert pixels[:, 25:, 0].min() > 220
    assert pixels[:, :15, 0].max() < 30


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "an empty file"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:", "git lfs pull"),
        (b"<!DOCTYPE html><html>", "a web page"),
        (b"8BPS" + bytes(40), "Photoshop"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "drawings"),
        (bytes(500), "begins with zeros"),
        (b"no image", "not an image of a known kind"),
    ],
)
def test_why_a_file_is_no_image(data, reason):
    with pytest.raises(Unreadable, match=reason):
        decode_picture(data)


def test_heic_without_pillow_heif_names_what_to_install(monkeypatch):
    monkeypatch.setattr(readers, "register_heif", lambda: False)
    with pytest.raises(Unreadable, match=r"HEIC images; to read them: pip install 'barlowctl\[heif\]'"):
        decode_picture(box(b"heic", b"mif1"))
