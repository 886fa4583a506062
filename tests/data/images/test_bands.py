"""Bands that are channels of their own: read from TIFFs, packed, and what is refused."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from barlowctl.data.beton.layout import JPEG, RAW
from barlowctl.data.beton.pack import pack
from barlowctl.data.beton.reader import Beton
from barlowctl.data.beton.writer import BetonWriter
from barlowctl.data.images.conversion import Choices, Conversion, parse_bands
from barlowctl.data.images.display import displayed
from barlowctl.data.images.pixels import decode_picture
from barlowctl.data.images.unreadable import Unreadable
from barlowctl.data.sources import open_source
from barlowctl.data.statistics import pixel_statistics
from barlowctl.errors import UserError

CUBE = (np.arange(6 * 9 * 13).reshape(6, 9, 13) * 5).astype(np.uint16)


def tiff(values: np.ndarray, **options: object) -> bytes:
    stream = io.BytesIO()
    tifffile.imwrite(stream, values, **{"photometric": "minisblack", "planarconfig": "contig", **options})
    return stream.getvalue()


def decoded(data: bytes, bands: tuple[int, ...], range: str = "type") -> np.ndarray:
    return decode_picture(
        data, Conversion.noted({"range": range, "background": "white", "bands": bands, "ranges": {}})
    ).pixels


@pytest.mark.parametrize(
    ("text", "bands"),
    [("1-4", (1, 2, 3, 4)), ("8, 2-4", (8, 2, 3, 4)), ("2,2", (2, 2)), ("5 - 5", (5,)), ("1,2,", (1, 2)), ("", ())],
)
def test_bands_are_numbers_and_ranges(text: str, bands: tuple[int, ...]) -> None:
    assert parse_bands(text) == bands
    assert Choices(bands=bands).channels == (len(bands) if len(bands) in (2, 4) else 0)


@pytest.mark.parametrize("text", ["4-2", "-3", "1-", "x", "1--3", "0", "1.5", "1-65", "0-3", "1-99999"])
def test_other_texts_and_too_many_are_refused(text: str) -> None:
    with pytest.raises(UserError, match="the bands are") as caught:
        Choices(bands=parse_bands(text))
    assert caught.value.next == "--bands 3,2,1"


@pytest.mark.parametrize("bands", [(1, 2), (13, 1, 7, 4), tuple(range(1, 14))])
def test_chosen_bands_are_channels_in_their_order(bands: tuple[int, ...]) -> None:
    scaled = np.floor(CUBE.astype(np.float64) * 255 / 65535 + 0.5)
    assert np.array_equal(decoded(tiff(CUBE), bands), scaled[..., [band - 1 for band in bands]])
    pages = tiff(np.ascontiguousarray(np.moveaxis(CUBE, 2, 0)), planarconfig=None)
    assert np.array_equal(decoded(pages, bands), scaled[..., [band - 1 for band in bands]])


def test_of_colours_and_alpha_too() -> None:
    """A fourth band that its writer called alpha (near infrared often is) is a band where it is chosen."""
    four = (np.arange(5 * 7 * 4).reshape(5, 7, 4) % 251).astype(np.uint8)
    data = tiff(four, photometric="rgb", extrasamples=["unassalpha"])
    assert np.array_equal(decoded(data, (1, 2, 3, 4)), four)
    assert np.array_equal(decoded(tiff(four[..., :3].copy(), photometric="rgb"), (3, 1)), four[..., [2, 0]])
    assert decoded(data, ()).shape == (5, 7, 3)


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_an_image_with_other_channels_cannot_be_read(kind: str, tmp_path: Path) -> None:
    stream = io.BytesIO()
    Image.new("RGB", (9, 6)).save(stream, kind)
    with pytest.raises(Unreadable, match="it has 3 channels, and 4 bands were chosen"):
        decoded(stream.getvalue(), (1, 2, 3, 4))
    (tmp_path / "in").mkdir()
    (tmp_path / f"in/a.{kind.lower()}").write_bytes(stream.getvalue())
    (tmp_path / "in/b.tif").write_bytes(tiff(CUBE))
    report = pack(open_source(tmp_path / "in"), tmp_path / "a.beton", conversion=chosen(1, 2, 3, 4))
    assert report.unreadable == [(f"a.{kind.lower()}", "it has 3 channels, and 4 bands were chosen")]
    assert (report.samples, report.channels) == (1, 4)


def chosen(*bands: int, range: str = "0:4095") -> Conversion:
    return Conversion.noted({"range": range, "background": "white", "bands": bands, "ranges": {}})


def test_packed_bands_are_read_back(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    tiles = [random.integers(0, 256, (8 + i, 12, 5)).astype(np.uint8) for i in range(3)]
    (tmp_path / "in").mkdir()
    for i, tile in enumerate(tiles):
        (tmp_path / f"in/{i}.tif").write_bytes(tiff(tile))
    report = pack(open_source(tmp_path / "in"), tmp_path / "a.beton", conversion=chosen(1, 2, 3, 4, 5))
    assert (report.channels, report.raw, report.encoded) == (5, 3, 0)
    packed = Beton.open(tmp_path / "a.beton")
    assert (packed.channels, packed.stored_channels) == (5, 5)
    for i, tile in enumerate(tiles):
        assert np.array_equal(packed.image(i), tile)
    assert packed.compute_hash() == report.content_hash
    shares = np.stack([tile.reshape(-1, 5).astype(np.float64).mean(0) / 255 for tile in tiles]).mean(0)
    assert np.allclose(pixel_statistics(packed).mean, shares, atol=1e-4)
    assert np.array_equal(packed.pick(np.array([2])).image(0), tiles[2])


def test_they_are_made_smaller_one_by_one(tmp_path: Path) -> None:
    smooth = np.linspace(0, 255, 40 * 60 * 4).reshape(40, 60, 4).astype(np.uint8)
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.tif").write_bytes(tiff(smooth))
    pack(open_source(tmp_path / "in"), tmp_path / "a.beton", conversion=chosen(1, 2, 3, 4), shorter_side=20)
    image = Beton.open(tmp_path / "a.beton").image(0)
    for band in range(4):
        alone = Image.fromarray(np.ascontiguousarray(smooth[..., band])).resize((30, 20), Image.Resampling.LANCZOS)
        assert np.array_equal(image[..., band], np.asarray(alone))


def test_they_are_no_jpeg(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.tif").write_bytes(tiff(CUBE))
    with pytest.raises(UserError, match="store is 'jpeg', and no JPEG has 2 bands"):
        pack(open_source(tmp_path / "in"), tmp_path / "a.beton", conversion=chosen(1, 2), store="jpeg")
    assert not (tmp_path / "a.beton").exists()


def test_a_writer_of_bands_notes_them_and_takes_no_other_pixels(tmp_path: Path) -> None:
    with BetonWriter(tmp_path / "a.beton", 1, channels=2) as writer:
        with pytest.raises(ValueError, match="36 bytes are no image of 3x4 pixels"):
            writer.append(bytes(36), mode=RAW, width=3, height=4)
        with pytest.raises(ValueError, match="in mode 0"):
            writer.append(bytes(24), mode=JPEG, width=3, height=4)
        writer.append(bytes(24), mode=RAW, width=3, height=4)
        writer.finish()
    assert Beton.open(tmp_path / "a.beton").stored_channels == 2


def test_a_jpeg_in_a_file_of_bands_is_refused(tmp_path: Path) -> None:
    """As another program may write it: its three values of a pixel would be read as four."""
    with BetonWriter(tmp_path / "a.beton", 1) as writer:
        writer.append(bytes(24), mode=JPEG, width=3, height=4)
        writer.finish(channels=4)
    with pytest.raises(UserError, match="noted as 3x4 pixels but has 24 bytes"):
        Beton.open(tmp_path / "a.beton")


@pytest.mark.parametrize("bands", [2, 3])
def test_two_bands_are_chosen_from_files_of_few(bands: int, tmp_path: Path) -> None:
    """Radar has two; nothing is said of bands that there is nothing to choose from."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.tif").write_bytes(tiff(CUBE[..., :bands].copy()))
    report = pack(open_source(tmp_path / "in"), tmp_path / "a.beton", conversion=chosen(2, 1))
    assert (report.samples, report.channels) == (1, 2)
    assert not [note for note in report.notes if "bands" in note]


@pytest.mark.parametrize("channels", [1, 2, 3, 13])
def test_what_people_see_of_them(channels: int) -> None:
    pixels = np.arange(4 * 5 * channels).reshape(4, 5, channels).astype(np.uint8)
    picture = displayed(pixels)
    assert picture.shape == (4, 5, 3)
    for colour in range(3):
        assert np.array_equal(picture[..., colour], pixels[..., colour if channels >= 3 else 0])
