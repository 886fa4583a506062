"""FITS images: values, bands, blanks, compression, rows from the bottom; the bytes are written here, not by astropy."""

from __future__ import annotations

import gzip
import io
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from barlowctl.cli.app import run as barlowctl
from barlowctl.data.beton.reader import Beton
from barlowctl.data.images import formats, readers
from barlowctl.data.images.conversion import Choices, Conversion
from barlowctl.data.images.deep import Deep
from barlowctl.data.images.pixels import decode_picture, read_parts
from barlowctl.data.images.ranges import Ranges
from barlowctl.data.images.unreadable import Unreadable
from barlowctl.data.sources import open_source

RNG = np.random.default_rng(0)
BITS = {"uint8": 8, "int16": 16, "int32": 32, "float32": -32, "float64": -64}


def block(data: bytes, fill: bytes = b"\0") -> bytes:
    """Filled up to 2,880 bytes (FITS 4.0, 3.1)."""
    return data + fill * (-len(data) % 2880)


def card(key: str, value: Any) -> bytes:
    text = "T" if value is True else f"'{value:<8}'" if isinstance(value, str) else str(value)
    return (
        f"{key:<8}= {text:>20}".ljust(80).encode()
        if not isinstance(value, str)
        else f"{key:<8}= {text}".ljust(80).encode()
    )


def hdu(values: np.ndarray | None, first: tuple[str, Any] = ("SIMPLE", True), **keys: Any) -> bytes:
    """A header and its array, big-endian, the last axis fastest (FITS 4.0, 3.3.2 and 5)."""
    shape = () if values is None else values.shape[::-1]
    cards = {first[0]: first[1], "BITPIX": 8 if values is None else BITS[values.dtype.name], "NAXIS": len(shape)}
    cards |= {f"NAXIS{at + 1}": length for at, length in enumerate(shape)}
    if first[0] == "XTENSION":
        cards |= {"PCOUNT": 0, "GCOUNT": 1}
    header = b"".join(card(key, value) for key, value in (cards | keys).items()) + b"END".ljust(80)
    data = b"" if values is None else values.astype(values.dtype.newbyteorder(">")).tobytes()
    return block(header, b" ") + block(data)


def held(data: bytes, bands: tuple[int, ...] = ()) -> np.ndarray:
    values = read_parts(data, bands).values
    return values.values if isinstance(values, Deep) else values


def scaled(data: bytes, low: float, high: float, bands: tuple[int, ...] = ()) -> np.ndarray:
    return decode_picture(data, Conversion(Choices(f"{low}:{high}", bands=bands), Ranges(f"{low}:{high}"))).pixels


@pytest.mark.parametrize("dtype", BITS)
def test_the_first_row_of_the_file_is_the_lowest_of_the_picture(dtype: str) -> None:
    values = RNG.integers(0, 200, (7, 5)).astype(dtype)
    read = held(hdu(values))
    assert np.array_equal(read, values[::-1])
    assert read.dtype == np.dtype(dtype)
    assert read.flags.c_contiguous


def test_values_are_what_the_header_means() -> None:
    stored = RNG.integers(-3000, 3000, (7, 5)).astype(np.int16)
    assert np.allclose(held(hdu(stored, BSCALE=0.5, BZERO=10.0)), stored[::-1] * 0.5 + 10)
    unsigned = held(hdu(stored, BSCALE=1, BZERO=32768))
    assert unsigned.dtype == np.uint16
    assert np.array_equal(unsigned, stored[::-1].astype(np.int64) + 32768)


def test_nothing_measured_is_black_and_does_not_count() -> None:
    values = np.array([[0.5, np.nan], [1.0, 0.25]], np.float32)
    assert scaled(hdu(values), 0.25, 1).tolist() == [[255, 0], [85, 0]]
    whole = np.array([[-32768, 40], [20, 30]], np.int16)
    parts = read_parts(hdu(whole, BLANK=-32768))
    assert isinstance(parts.values, Deep)
    assert (parts.values.values.dtype, parts.values.nodata) == (np.int16, -32768)
    assert scaled(hdu(whole, BLANK=-32768), 10, 40).tolist() == [[85, 170], [0, 255]]
    measured = decode_picture(hdu(whole, BLANK=-32768))  # 0 to 40: 8 bits
    assert measured.pixels.tolist() == [[20, 30], [0, 40]]
    assert scaled(hdu(whole, BLANK=-32768, BSCALE=0.5), 5, 20).tolist() == [[85, 170], [0, 255]]


@pytest.mark.parametrize(
    ("shape", "height", "width", "count"),
    [((5, 8, 6), 8, 6, 5), ((20, 8, 6), 8, 6, 20), ((8, 6, 3), 8, 6, 3), ((3, 3, 3), 3, 3, 3), ((4, 9, 2), 9, 2, 4)],
)
def test_the_third_axis_is_of_bands(shape: tuple[int, ...], height: int, width: int, count: int) -> None:
    values = RNG.random(shape).astype(np.float32)
    bands = tuple(range(1, count + 1))
    expected = (values if shape == (8, 6, 3) else np.moveaxis(values, 0, -1))[::-1]
    read = held(hdu(values), bands if count != 3 else ())
    assert read.shape == (height, width, count)
    assert np.array_equal(read, expected)
    if count > 3:
        assert np.array_equal(held(hdu(values), (3,)), expected[..., 2])
        with pytest.raises(Unreadable, match=f"{count} bands, and it does not say which are red") as caught:
            read_parts(hdu(values))
        assert caught.value.setting == "bands=[4,3,2]"
        with pytest.raises(Unreadable, match="there is no band 33"):
            read_parts(hdu(values), (33,))


def test_axes_of_one_entry_are_none() -> None:
    values = RNG.random((1, 1, 8, 6)).astype(np.float32)
    assert np.array_equal(held(hdu(values)), values[0, 0, ::-1])
    with pytest.raises(Unreadable, match="a FITS image of 2 x 2 x 8 x 6; an image is"):
        read_parts(hdu(RNG.random((2, 2, 8, 6)).astype(np.float32)))


def test_the_first_picture_may_lie_in_an_extension() -> None:
    first, second = RNG.random((8, 6)).astype(np.float32), RNG.random((4, 4)).astype(np.float32)
    extension = "XTENSION", "IMAGE"
    data = hdu(None, EXTEND=True) + hdu(first, extension) + hdu(second, extension)
    assert np.array_equal(held(data), first[::-1])
    assert read_parts(data).notes == ["first of several pictures"]
    assert read_parts(hdu(None, EXTEND=True) + hdu(first, extension)).notes == []


def extensions(*values: np.ndarray, **keys: Any) -> bytes:
    return hdu(None) + b"".join(hdu(one, ("XTENSION", "IMAGE"), **keys) for one in values)


@pytest.mark.parametrize("first", [True, False])
def test_pictures_in_several_extensions_are_bands_where_bands_are_chosen(first: bool) -> None:
    planes = [RNG.integers(-500, 500, (5, 7)).astype(np.int16) for _ in range(4)]
    data = hdu(planes[0]) + extensions(*planes[1:])[2880:] if first else extensions(*planes)
    expected = np.stack(planes, axis=-1)[::-1]
    for bands in ((1, 2, 3, 4), (4, 2), (3, 2, 1), (2,)):
        taken = expected[..., [band - 1 for band in bands]]
        assert np.array_equal(held(data, bands), taken[..., 0] if len(bands) == 1 else taken)
    parts = read_parts(data, (3, 2, 1))
    assert (parts.bands, parts.notes) == (4, ["bands 3, 2, 1 of 4 images"])
    assert np.array_equal(held(data), planes[0][::-1])
    assert read_parts(data).notes == ["first of several pictures"]
    with pytest.raises(Unreadable, match="a FITS file of 4 images; there is no band 5"):
        read_parts(data, (5,))
    assert np.array_equal(held(gzip.compress(data), (4, 2)), expected[..., [3, 1]])


def test_extensions_of_other_sizes_or_types_are_no_bands() -> None:
    """Errors and flags beside a picture, as telescopes have them."""
    picture, flags = RNG.random((5, 7)).astype(np.float32), np.zeros((5, 7), np.int16)
    assert np.array_equal(held(extensions(picture, flags), (1,)), picture[::-1])
    with pytest.raises(Unreadable, match="there is no band 2"):
        read_parts(extensions(picture, flags), (1, 2))
    with pytest.raises(Unreadable, match="there is no band 2"):
        read_parts(extensions(picture, picture[:4]), (1, 2))


def test_blanks_of_extensions_do_not_count() -> None:
    planes = [np.array([[1, -7], [5, 6]], np.int16), np.array([[9, 8], [-7, 3]], np.int16)]
    values = read_parts(extensions(*planes, BLANK=-7), (1, 2)).values
    assert isinstance(values, Deep)
    assert (values.nodata, values.values.tolist()) == (-7.0, np.stack(planes, axis=-1)[::-1].tolist())
    of_one = hdu(None) + hdu(planes[0], ("XTENSION", "IMAGE"), BLANK=-7) + hdu(planes[1], ("XTENSION", "IMAGE"))
    with pytest.raises(Unreadable, match="of several types"):
        read_parts(of_one, (1, 2))
    with pytest.raises(Unreadable, match="cut short or damaged"):
        read_parts(extensions(*(np.zeros((90, 90), np.int16),) * 2)[:-9000], (1, 2))


def test_a_file_of_tables_is_called_so() -> None:
    table = hdu(np.zeros((2, 4), np.uint8), ("XTENSION", "BINTABLE"), TFIELDS=1, TFORM1="1E", TTYPE1="ra")
    with pytest.raises(Unreadable, match=r"without a picture \(PrimaryHDU, BinTableHDU\)"):
        read_parts(hdu(None, EXTEND=True) + table)


@pytest.mark.parametrize("compression", ["RICE_1", "GZIP_1", "GZIP_2", "HCOMPRESS_1"])
def test_compressed_pictures(compression: str) -> None:
    fits = pytest.importorskip("astropy.io.fits")
    values, stream = RNG.integers(0, 4000, (32, 40)).astype(np.int16), io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(values, compression_type=compression)]).writeto(stream)
    assert np.array_equal(held(stream.getvalue()), values[::-1])
    assert np.array_equal(held(gzip.compress(stream.getvalue())), values[::-1])


def test_damaged_files_are_unreadable() -> None:
    data = hdu(RNG.random((40, 60)).astype(np.float32))
    for cut in (100, 2000, 2880, 5000, 2880 + 9599):
        with pytest.raises(Unreadable):
            read_parts(data[:cut])
    assert held(data[: 2880 + 9600]).shape == (40, 60)  # what is missing fills the block up
    with pytest.raises(Unreadable, match="cut short or damaged"):
        read_parts(data[:5000])
    with pytest.raises(Unreadable):
        read_parts(gzip.compress(data)[:-2000])
    with pytest.raises(Unreadable, match="at most"):
        read_parts(hdu(None, NAXIS=2, NAXIS1=70000, NAXIS2=70000)[:2880] + bytes(2880))


def test_folders_of_fits_files_are_folders_of_images(tmp_path: Path) -> None:
    values = RNG.integers(0, 4000, (6, 3, 24, 20)).astype(np.int16)
    for at, name in enumerate(("a/0.fits", "a/1.fit", "b/2.fts", "b/3.fits.gz", "b/4.FITS", "b/no ending")):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        data = hdu(values[at])
        (tmp_path / "in" / name).write_bytes(gzip.compress(data) if name.endswith("gz") else data)
    source = open_source(tmp_path / "in")
    assert (len(source), source.class_names) == (6, ["a", "b"])
    out = tmp_path / "x.beton"
    assert barlowctl(["data", "pack", str(tmp_path / "in"), str(out), "--range", "0:4000", "--quiet"]) == 0
    packed = Beton.open(out)
    order = [int(source.describe(at)[0][2]) if "no" not in source.describe(at)[0] else 5 for at in range(6)]
    for at, number in enumerate(order):
        own = np.moveaxis(values[number], 0, -1)[::-1]
        expected = np.floor(own.astype(np.float64) * 255 / 4000 + 0.5).astype(np.uint8)
        assert np.array_equal(np.frombuffer(packed.stored(at), np.uint8).reshape(24, 20, 3), expected)
    for name in ("a/0.fits", "b/3.fits.gz"):
        assert len(open_source(tmp_path / "in" / name)) == 1


def test_without_astropy_it_is_said_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = hdu(np.zeros((4, 4), np.float32))
    (tmp_path / "1.fits").write_bytes(data)
    Image.new("L", (8, 8)).save(tmp_path / "2.png")
    monkeypatch.setattr(readers, "has_astropy", lambda: False)
    monkeypatch.setitem(sys.modules, "astropy", None)
    for content in (data, gzip.compress(data)):
        with pytest.raises(Unreadable, match=r"that of FITS images; to read them: pip install 'barlowctl\[fits\]'"):
            read_parts(content)
    source = open_source(tmp_path)
    assert len(source) == 1
    assert "FITS images: 1 (1.fits); to read them: pip install 'barlowctl[fits]'" in source.scan_report.lines()[0]
    assert formats.readable(formats.FITS) is False
