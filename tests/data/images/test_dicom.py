"""DICOM files, written here byte by byte (PS3.5, 7.1.2), and a real scanner's."""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest

from barlowctl.cli.app import run as barlowctl
from barlowctl.data.images import formats, readers, tiff
from barlowctl.data.images.conversion import Choices, Conversion
from barlowctl.data.images.dicom import why_not_decoded
from barlowctl.data.images.pixels import decode_picture
from barlowctl.data.images.ranges import Ranges
from barlowctl.data.images.unreadable import Unreadable
from barlowctl.data.sources import open_source
from barlowctl.data.sources.sample import conversion_of
from tests.data.images.test_ranges import scaled

RAMP = np.arange(600).reshape(20, 30)
EXPLICIT = "1.2.840.10008.1.2.1"
Elements = dict[tuple[int, int], tuple[str, object]]


def element(tag: tuple[int, int], kind: str, value: object) -> bytes:
    if kind in ("US", "SS"):
        numbers = value if isinstance(value, tuple) else (value,)
        data = struct.pack(f"<{len(numbers)}{'H' if kind == 'US' else 'h'}", *numbers)
    elif isinstance(value, bytes):
        data = value
    else:
        data = str(value).encode() + (b"\0" if kind == "UI" else b" ") * (len(str(value)) % 2)
    length = struct.pack("<2xI" if kind in ("OB", "OW", "SQ", "UN") else "<H", len(data))
    return struct.pack("<2H", *tag) + kind.encode() + length + data


def dicom(values: np.ndarray, photometric: str = "MONOCHROME2", bits: int = 0, **more: object) -> bytes:
    """A file with these pixels, uncompressed. more: VR_GROUP_ELEMENT="value", with the numbers in hexadecimal."""
    frames = 1 if values.ndim < 4 else len(values)
    rows, columns = values.shape[-3:-1] if photometric == "RGB" else values.shape[-2:]
    allocated = 8 * values.dtype.itemsize
    elements: Elements = {
        (0x0008, 0x0016): ("UI", "1.2.840.10008.5.1.4.1.1.2"),
        (0x0028, 0x0002): ("US", 3 if photometric == "RGB" else 1),
        (0x0028, 0x0004): ("CS", photometric),
        (0x0028, 0x0006): ("US", 0),
        (0x0028, 0x0008): ("IS", frames),
        (0x0028, 0x0010): ("US", rows),
        (0x0028, 0x0011): ("US", columns),
        (0x0028, 0x0100): ("US", allocated),
        (0x0028, 0x0101): ("US", bits or allocated),
        (0x0028, 0x0102): ("US", (bits or allocated) - 1),
        (0x0028, 0x0103): ("US", int(values.dtype.kind == "i")),
        (0x7FE0, 0x0010): ("OW", values.tobytes() + b"\0" * (values.nbytes % 2)),
    }
    for name, value in more.items():
        kind, group, number = name.split("_")
        elements[int(group, 16), int(number, 16)] = (kind, value)
    meta = element((2, 2), "UI", "1.2.840.10008.5.1.4.1.1.2") + element((2, 3), "UI", "1.2.3")
    meta += element((2, 0x10), "UI", EXPLICIT)
    head = bytes(128) + b"DICM" + element((2, 0), "UL", struct.pack("<I", len(meta))) + meta
    return head + b"".join(element(tag, *elements[tag]) for tag in sorted(elements) if elements[tag][1] is not None)


def test_twelve_bits_are_believed() -> None:
    values = (RAMP * 6).astype(np.uint16)
    assert np.array_equal(decode_picture(dicom(values, bits=12)).pixels, scaled(values, 0, 4095))
    eight = RAMP.astype(np.uint8)
    assert np.array_equal(decode_picture(dicom(eight)).pixels, eight)


def test_ct_is_in_hounsfield_units() -> None:
    """Stored without a sign or with one, the units are the same, and one window holds for both."""
    units = RAMP * 4 - 1024
    unsigned = dicom((units + 1024).astype(np.uint16), bits=12, DS_28_1052="-1024", DS_28_1053="1")
    signed = dicom(units.astype(np.int16))
    halves = dicom((units // 2).astype(np.int16), DS_28_1052="0", DS_28_1053="2")
    window = Conversion(Choices("-1000:400"), Ranges("-1000:400"))
    expected = scaled(units, -1000, 400)
    assert np.array_equal(decode_picture(unsigned, window).pixels, expected)
    assert np.array_equal(decode_picture(signed, window).pixels, expected)
    assert np.array_equal(decode_picture(halves, window).pixels, scaled(units // 2 * 2, -1000, 400))
    with pytest.raises(Unreadable, match=r"int32 values -1,024 to 1,372 .* set the range, e\.g\. -1024:1372"):
        decode_picture(unsigned)


def test_fractions_are_floats_and_padding_is_black() -> None:
    stored = (RAMP + 1000).astype(np.uint16)
    stored[:3] = 63536
    data = dicom(stored, DS_28_1052="-1024", DS_28_1053="0.3", US_28_120=63536)
    pixels = decode_picture(data, Conversion(Choices("-800:-500"), Ranges("-800:-500"))).pixels
    assert (pixels[:3] == 0).all()
    assert np.array_equal(pixels[3:], scaled((stored[3:] * 0.3 - 1024).astype(np.float32), -800, -500))
    padded = np.where(RAMP < 40, -2000, RAMP).astype(np.int16)  # -2000 is no value, and the others are 0 to 599
    pixels = decode_picture(dicom(padded, SS_28_120=-2000)).pixels
    assert np.array_equal(decode_picture(dicom(padded, US_28_120=63536)).pixels, pixels)  # the same 16 bits
    assert np.array_equal(pixels.ravel()[40:], scaled(padded.ravel()[40:], 0, 1023))
    assert (pixels.ravel()[:40] == 0).all()


def sequence(*elements: bytes) -> bytes:
    """The value of a sequence of one item."""
    item = b"".join(elements)
    return struct.pack("<2HI", 0xFFFE, 0xE000, len(item)) + item


def test_a_table_of_units_and_the_rescaling_of_a_file_of_several_pictures() -> None:
    stored = (RAMP % 256).astype(np.uint8)
    table = (np.arange(256)[::-1] * 10).astype(np.uint16)
    units = sequence(
        element((0x28, 0x3002), "US", (256, 0, 16)),
        element((0x28, 0x3004), "LO", "OD"),
        element((0x28, 0x3006), "OW", table.tobytes()),
    )
    assert np.array_equal(decode_picture(dicom(stored, SQ_28_3000=units)).pixels, scaled(table[stored], 0, 4095))
    rescaling = sequence(element((0x28, 0x1052), "DS", "-1000"), element((0x28, 0x1053), "DS", "2"))
    groups = sequence(element((0x28, 0x9145), "SQ", rescaling))
    window = Conversion(Choices("-1000:400"), Ranges("-1000:400"))
    slices = np.stack([RAMP, RAMP[::-1]]).astype(np.uint16)[:, None]
    for name in ("SQ_5200_9229", "SQ_5200_9230"):  # of all pictures, of each
        pixels = decode_picture(dicom(slices, bits=12, IS_28_8=2, **{name: groups}), window).pixels
        assert np.array_equal(pixels, scaled(RAMP * 2 - 1000, -1000, 400))


def test_padding_is_black_in_every_kind_of_picture() -> None:
    """Of MONOCHROME1 it was turned over with the rest; ranges of padding and pictures of 8 bits were not heeded."""
    values = (RAMP * 6).astype(np.uint16)
    turned = decode_picture(dicom(values, "MONOCHROME1", bits=12, US_28_120=0)).pixels
    assert turned[0, 0] == 0
    assert np.array_equal(turned.ravel()[1:], 255 - scaled(values, 0, 4095).ravel()[1:])
    for value, limit in ((2000, 3000), (3000, 2000)):
        pixels = decode_picture(dicom(values, bits=12, US_28_120=value, US_28_121=limit)).pixels
        padded = (values >= 2000) & (values <= 3000)
        assert np.array_equal(pixels, np.where(padded, 0, scaled(values, 0, 4095)))
    eight = (RAMP % 200).astype(np.uint8)
    assert np.array_equal(decode_picture(dicom(eight, US_28_120=199)).pixels, np.where(eight == 199, 0, eight))
    turned = decode_picture(dicom(eight, "MONOCHROME1", US_28_120=0)).pixels
    assert np.array_equal(turned, np.where(eight == 0, 0, 255 - eight))


def test_a_lacking_slope_is_one_and_zero_and_other_bits_are_refused() -> None:
    values = (RAMP * 6).astype(np.uint16)
    window = Conversion(Choices("-1024:3071"), Ranges("-1024:3071"))
    expected = scaled(values.astype(np.int32) - 1024, -1024, 3071)
    for slope in ("", None):
        assert np.array_equal(
            decode_picture(dicom(values, DS_28_1052="-1024", DS_28_1053=slope), window).pixels, expected
        )
    assert np.array_equal(
        decode_picture(dicom(values, bits=12, DS_28_1052="", DS_28_1053="")).pixels, scaled(values, 0, 4095)
    )
    with pytest.raises(Unreadable, match="of 12 bits whose highest is bit 15, and not 11"):
        decode_picture(dicom(values * 16, bits=12, US_28_102=15))
    with pytest.raises(Unreadable, match="whose RescaleSlope is 0"):
        decode_picture(dicom(values, DS_28_1052="0", DS_28_1053="0"))


def test_what_is_white_and_which_colours() -> None:
    values = (RAMP * 6).astype(np.uint16)
    turned = decode_picture(dicom(values, "MONOCHROME1", bits=12)).pixels
    assert np.array_equal(turned, 255 - scaled(values, 0, 4095))
    colours = np.random.default_rng(0).integers(0, 256, (20, 30, 3)).astype(np.uint8)
    assert np.array_equal(decode_picture(dicom(colours, "RGB")).pixels, colours)
    deep = colours.astype(np.uint16) * 16 + 15
    assert np.array_equal(decode_picture(dicom(deep, "RGB", bits=12)).pixels, colours)
    assert np.array_equal(decode_picture(dicom(deep * 16, "RGB")).pixels, colours)
    table = {
        f"{kind}_28_{number}": value
        for channel in range(3)
        for kind, number, value in (
            ("US", f"110{channel + 1}", (256, 0, 8)),
            ("OW", f"120{channel + 1}", np.roll(np.arange(256, dtype=np.uint8), channel).tobytes()),
        )
    }
    palette = decode_picture(dicom(RAMP.astype(np.uint8), "PALETTE COLOR", **table)).pixels
    assert np.array_equal(palette, np.stack([(RAMP - channel) % 256 for channel in range(3)], axis=-1))


def test_files_without_a_picture_and_damaged_ones_are_named() -> None:
    report = dicom(RAMP.astype(np.uint8), OW_7FE0_10=None)
    with pytest.raises(Unreadable, match="a DICOM file without a picture: CT Image Storage"):
        decode_picture(report)
    with pytest.raises(Unreadable, match="number of bytes of pixel data is less than expected"):
        decode_picture(dicom(RAMP.astype(np.uint8))[:-50])
    unknown = dicom(RAMP.astype(np.uint8)).replace(EXPLICIT.encode(), b"1.2.840.10008.1.2.9")
    with pytest.raises(Unreadable):
        decode_picture(unknown)
    huge = dicom(RAMP.astype(np.uint8), US_28_10=65535, US_28_11=65535)
    with pytest.raises(Unreadable, match=r"65,?535 x 65,?535"):
        decode_picture(huge)
    assert formats.by_ending("disc/DICOMDIR") is formats.DOCUMENT
    contents = report.replace(b"1.2.840.10008.5.1.4.1.1.2\0", b"1.2.840.10008.1.3.10".ljust(26, b"\0"), 1)
    contents = contents.replace(element((8, 0x16), "UI", "1.2.840.10008.5.1.4.1.1.2"), b"")
    with pytest.raises(Unreadable, match="a DICOM file without a picture: Media Storage Directory"):
        decode_picture(contents)


@pytest.mark.parametrize(
    ("kind", "pictures"),
    [
        ("88.67", False),  # X-Ray Radiation Dose SR
        ("11.1", False),
        ("9.1.1", False),
        ("104.1", False),
        ("66", False),
        ("481.3", False),
        ("481.22", False),
        ("2", True),
        ("66.4", True),  # a segmentation has pixels
        ("481.1", True),
        ("481.2", True),
        ("481.23", True),
        ("6.1", True),
        ("88", False),
        ("880.1", True),
    ],
)
def test_kinds_without_pixels_are_passed_over_and_counted(tmp_path: Path, kind: str, pictures: bool) -> None:
    """By the first bytes, whatever the ending is and whether a decoder is there."""
    scan = dicom(RAMP.astype(np.uint8))
    meta = b"1.2.840.10008.5.1.4.1.1.2\0"
    other = element((2, 2), "UI", f"1.2.840.10008.5.1.4.1.1.{kind}")
    report = scan.replace(element((2, 2), "UI", meta), other, 1)
    assert report != scan or kind == "2"
    for name in ("a.dcm", "b.dcm", "c"):
        (tmp_path / name).write_bytes(report)
    (tmp_path / "scan.dcm").write_bytes(scan)
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        for name in ("a.dcm", "b.dcm", "c", "scan.dcm"):
            archive.write(tmp_path / name, name)
    for place in (tmp_path, tmp_path / "all.zip"):
        source = open_source(place)
        assert len(source) == (4 if pictures else 1)
        skipped = source.scan_report.skipped.get("DICOM files without a picture (reports, plans)")
        assert (skipped.count, skipped.examples) == (3, ["a.dcm", "b.dcm", "c"]) if skipped else pictures


def test_old_files_without_the_first_132_bytes_are_read() -> None:
    """Two that begin with what DICM precedes, and with the elements themselves, which say how they are written."""
    values = (RAMP * 6).astype(np.uint16)
    data = dicom(values, bits=12, CS_8_5="ISO_IR 100")
    elements = data.index(element((8, 5), "CS", "ISO_IR 100"))
    for start in (132, elements):
        assert np.array_equal(decode_picture(data[start:]).pixels, scaled(values, 0, 4095))
    charset, kind = b"ISO_IR 100", b"1.2.840.10008.5.1.4.1.1.481.3\0"
    implicit = struct.pack("<HHI", 8, 5, 10) + charset + struct.pack("<HHI", 8, 0x16, 30) + kind
    with pytest.raises(Unreadable, match="a DICOM file without a picture: RT Structure Set Storage"):
        decode_picture(implicit)


def test_every_decoder_says_why_and_what_brings_another() -> None:
    from pydicom.data import get_testdata_file

    extended = Path(str(get_testdata_file("JPGExtended.dcm", download=False))).read_bytes()
    with pytest.raises(Unreadable, match=r"12-bit precision; another decoder may: pip install pylibjpeg pylibjpeg-lib"):
        decode_picture(extended)
    begun = "Unable to decode as exceptions were raised by all available plugins:\n"
    both = why_not_decoded(begun + "  gdcm: no\n  pillow: broken data stream")
    assert both == "which cannot be decoded: gdcm: no; pillow: broken data stream"
    assert why_not_decoded(begun + "  pillow: no").endswith("pillow: no; another decoder may: pip install python-gdcm")
    assert why_not_decoded("this syntax is not known") == "which cannot be decoded: this syntax is not known"


def test_without_pydicom_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers, "has_pydicom", lambda: False)
    with pytest.raises(Unreadable, match=r"DICOM images; to read them: pip install 'barlowctl\[dicom\]'"):
        decode_picture(dicom(RAMP.astype(np.uint8)))


def test_a_slice_of_a_real_scanner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its first bytes are a TIFF's, as PS3.10 allows."""
    from pydicom.data import get_testdata_file

    data = Path(str(get_testdata_file("CT_small.dcm", download=False))).read_bytes()
    assert data[:2] == b"II"
    decoded = decode_picture(data, Conversion(Choices("-896:1167"), Ranges("-896:1167")))
    assert decoded.pixels.shape == (128, 128)
    assert (decoded.pixels.min(), decoded.pixels.max()) == (0, 255)
    assert "values cut off" not in decoded.notes
    (tmp_path / "a.dcm").write_bytes(data)
    monkeypatch.setattr(tiff, "is_tiff", lambda data: pytest.fail("looked at as a TIFF"))
    measured = conversion_of(open_source(tmp_path)).ranges.measured()["int32"]
    assert (measured.low, measured.high) == (-896, 1167)


def test_a_folder_of_dicom_files_is_packed_with_the_first_picture_of_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BARLOWCTL_DATA", str(tmp_path / "home"))
    folder = tmp_path / "scans"
    folder.mkdir()
    values = (RAMP * 6).astype(np.uint16)
    (folder / "a.dcm").write_bytes(dicom(values, bits=12))
    (folder / "IM0001").write_bytes(dicom(values // 2, bits=12))
    (folder / "DICOMDIR").write_bytes(dicom(values, OW_7FE0_10=None))
    volume = np.stack([values, values // 3])[:, None]
    (folder / "volume.dcm").write_bytes(dicom(volume, bits=12, IS_28_8=2))
    assert [open_source(folder).describe(row)[0] for row in range(3)] == ["IM0001", "a.dcm", "volume.dcm"]
    assert barlowctl(["data", "pack", str(folder), "scans"]) == 0
    printed = capsys.readouterr()
    assert "0 is black, 4,095 is white (the files say 12 bits)" in printed.out + printed.err
    assert "first of several pictures" in printed.out
    from barlowctl.data.beton.reader import Beton

    packed = Beton.open(tmp_path / "home" / "scans" / "train.beton")
    assert np.array_equal(packed.image(0)[..., 0], scaled(values // 2, 0, 4095))
    assert np.array_equal(packed.image(2)[..., 0], scaled(values, 0, 4095))
