"""Ranges of values beyond 8 bits: one for a data set, from what is known, and never each image by its own."""

from __future__ import annotations

import io
import pickle
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image, TiffImagePlugin

from barlowctl.data.beton.pack import pack
from barlowctl.data.beton.reader import Beton
from barlowctl.data.images.brightness import BRIGHT, DARK, FLAT, look
from barlowctl.data.images.conversion import Choices, Conversion, parse_bands
from barlowctl.data.images.deep import Deep
from barlowctl.data.images.pixels import decode_picture
from barlowctl.data.images.ranges import Ranges
from barlowctl.data.images.unreadable import Unreadable, UnreadableImage
from barlowctl.data.loaders.plain import Pictures
from barlowctl.data.sources import open_source
from barlowctl.data.sources.sample import conversion_of, positions
from barlowctl.errors import UserError
from barlowctl.recipe.load import load

RAMP = np.linspace(0, 1, 600).reshape(20, 30)


def png(values: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(values).save(stream, "PNG")
    return stream.getvalue()


def tiff(values: np.ndarray, **how: object) -> bytes:
    stream = io.BytesIO()
    tifffile.imwrite(stream, values, **how)  # type: ignore[arg-type]
    return stream.getvalue()


def deep(high: int, dtype: type = np.uint16) -> np.ndarray:
    return np.rint(RAMP * high).astype(dtype)


def scaled(values: np.ndarray, low: float, high: float) -> np.ndarray:
    return np.floor((np.clip(values.astype(float), low, high) - low) * 255 / (high - low) + 0.5).astype(np.uint8)


@pytest.mark.parametrize(
    ("high", "dtype", "white"),
    [
        (3000, np.uint16, 4095),
        (4095, np.uint16, 4095),
        (4096, np.uint16, 16383),
        (10000, np.uint16, 16383),
        (255, np.uint16, 255),
        (1000, np.uint16, 1023),
        (65535, np.uint16, 65535),
        (255, np.int32, 255),
        (65000, np.uint32, 65535),
        (1, np.float32, 1),
        (250, np.float64, 255),
    ],
)
def test_the_smallest_depth_that_holds_the_values(high: int, dtype: type, white: int) -> None:
    values = deep(high, dtype) if dtype not in (np.float32, np.float64) else (RAMP * high).astype(dtype)
    assert np.array_equal(decode_picture(tiff(values)).pixels, scaled(values, 0, white))


def test_one_range_for_the_whole_set_and_all_its_splits(tmp_path: Path) -> None:
    """Images keep their brightness relative to one another: a dark one stays dark."""
    for name, high in {"train/a.png": 4000, "train/b.png": 200, "val/c.png": 900}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(png(deep(high)))
    train, val = open_source(tmp_path), open_source(tmp_path, "val")
    for source, high in ((train, 4000), (val, 900)):
        conversion = conversion_of(source, training=lambda: train)
        assert np.array_equal(Pictures(source, conversion).image(0)[..., 0], scaled(deep(high), 0, 4095))
    pack(train, tmp_path / "x.beton", store="raw")
    packed = Beton.open(tmp_path / "x.beton")
    assert [int(packed.image(i).max()) for i in range(2)] == [249, 12]
    assert packed.info["conversion"]["ranges"] == {"uint16": [0.0, 4095.0]}
    noted = Conversion.noted(packed.info["conversion"])  # an image from elsewhere is taken as those were
    assert decode_picture(png(deep(900)), noted).pixels.max() == scaled(np.array([900]), 0, 4095)[0]


def test_what_is_set_holds_for_all(tmp_path: Path) -> None:
    values = deep(3000).astype(np.int16) - 1000
    decoded = decode_picture(tiff(values), Conversion(Choices(), Ranges("-500:1000")))
    assert np.array_equal(decoded.pixels, scaled(values, -500, 1000))
    assert "values cut off" in decoded.notes
    wide = decode_picture(tiff(deep(3000)), Conversion(Choices(), Ranges("type")))
    assert np.array_equal(wide.pixels, scaled(deep(3000), 0, 65535))
    eight = decode_picture(png(deep(200, np.uint8)), Conversion(Choices(), Ranges("0:100")))
    assert np.array_equal(eight.pixels, deep(200, np.uint8))  # 8 bits are never touched


def test_what_a_file_states_is_believed_where_it_is_certain() -> None:
    values = deep(900)
    stated = tiff(values, extratags=[(281, "H", 1, 4095, True)])
    assert np.array_equal(decode_picture(stated).pixels, scaled(values, 0, 4095))
    of_this_image = tiff(values, extratags=[(281, "H", 1, 900, True)])  # many programs write the largest of each image
    assert np.array_equal(decode_picture(of_this_image).pixels, scaled(values, 0, 1023))

    def with_sbit(values: np.ndarray) -> bytes:
        whole = png(values)
        chunk = b"sBIT" + bytes([12])
        return whole[:33] + (1).to_bytes(4) + chunk + zlib.crc32(chunk).to_bytes(4) + whole[33:]

    assert np.array_equal(decode_picture(with_sbit(values)).pixels, scaled(values, 0, 4095))
    to_the_top = deep(65535)  # as the standard asks: 12 bits that were scaled to 16
    assert np.array_equal(decode_picture(with_sbit(to_the_top)).pixels, scaled(to_the_top, 0, 65535))


def test_not_a_number_is_black_and_refusals_say_what_to_set(tmp_path: Path) -> None:
    values = RAMP.astype(np.float32)
    values[0, :3] = np.nan, np.inf, -np.inf
    assert decode_picture(tiff(values)).pixels[0, :3].tolist() == [0, 255, 0]
    (tmp_path / "a.tif").write_bytes(tiff((RAMP * 1.25).astype(np.float32)))
    with pytest.raises(UnreadableImage, match=r"float32 values 0 to 1\.25 .* set the range, e\.g\. 0:1\.25") as caught:
        Pictures(open_source(tmp_path)).image(0)
    assert caught.value.next == "--set data.range=0:1.25"
    with pytest.raises(UserError) as packing:
        pack(open_source(tmp_path), tmp_path / "x.beton")
    assert packing.value.next == "--range 0:1.25"
    assert pack(open_source(tmp_path), tmp_path / "x.beton", conversion=Conversion(Choices(), Ranges("0:1.25"))).samples


def test_a_kind_that_no_image_of_the_sample_has_is_not_guessed(tmp_path: Path) -> None:
    ranges = Ranges("auto", sample=lambda: iter(()))
    with pytest.raises(Unreadable, match="none of the images looked at is of this type"):
        decode_picture(png(deep(3000)), Conversion(Choices(), ranges))
    (tmp_path / "a.png").write_bytes(png(deep(3000)))
    pictures = pickle.loads(pickle.dumps(Pictures(open_source(tmp_path))))  # as a worker process gets it
    assert pictures.image(0).max() == scaled(np.array([3000]), 0, 4095)[0]
    (tmp_path / "a.png").write_bytes(png(deep(60000)))  # what it has measured stays
    assert pictures.image(0).max() == 255


def test_the_sample_is_all_of_a_small_set_and_spread_over_a_large_one() -> None:
    assert positions(256) == list(range(256))
    chosen = positions(10_000_000)
    assert len(chosen) == 256
    assert (chosen[0], chosen[-1]) == (0, 9_999_999)


def test_bands_are_chosen_by_number(tmp_path: Path) -> None:
    cube = np.stack([np.full((4, 5), 10 * band, np.uint8) for band in range(1, 6)], axis=2)
    data = tiff(cube, photometric="minisblack", planarconfig="contig")
    assert decode_picture(data, Conversion(Choices(bands=(4, 3, 2)))).pixels[0, 0].tolist() == [40, 30, 20]
    assert decode_picture(data, Conversion(Choices(bands=(5,)))).pixels[0, 0] == 50
    with pytest.raises(Unreadable, match="there is no band 6"):
        decode_picture(data, Conversion(Choices(bands=(6,))))
    assert parse_bands(" 4,3, 2") == (4, 3, 2)
    three = decode_picture(png(cube[..., :3]), Conversion(Choices(bands=(5,))))  # nothing to choose
    assert three.pixels.shape == (4, 5, 3)


@pytest.mark.parametrize("background", ["black", "#204060", "none"])
def test_transparency_on_any_background(background: str) -> None:
    pixels, alpha = np.full((2, 2, 3), 200, np.uint8), np.array([[0, 255], [128, 1]], np.uint8)
    decoded = decode_picture(png(np.dstack([pixels, alpha])), Conversion(Choices(background=background)))
    behind = {"black": (0, 0, 0), "#204060": (0x20, 0x40, 0x60), "none": (200, 200, 200)}[background]
    for place in np.ndindex(2, 2):
        share = alpha[place] / 255
        assert decoded.pixels[place].tolist() == [int(share * 200 + (1 - share) * level + 0.5) for level in behind]
    assert ("transparency ignored" in decoded.notes) == (background == "none")
    grey = decode_picture(png(np.dstack([pixels[..., 0], alpha])), Conversion(Choices(background=background)))
    assert grey.grey == (background != "#204060")
    opaque = decode_picture(png(np.dstack([pixels, np.full((2, 2), 255, np.uint8)])))
    assert opaque.notes == []


@pytest.mark.parametrize(
    ("key", "value"), [("range", "5"), ("range", "9:3"), ("range", "a:b"), ("background", "pink"), ("bands", (0,))]
)
def test_bad_choices_are_refused(key: str, value: object) -> None:
    with pytest.raises(UserError):
        Choices(**{key: value})  # type: ignore[arg-type]


def test_what_pictures_look_like() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8)
    assert look(noise) == ""
    assert look(noise // 16) == DARK
    hot = noise // 16
    hot[5, 5] = 255  # a hot pixel is no light
    assert look(hot) == DARK
    assert look(255 - noise // 16) == BRIGHT
    assert look(noise // 64 + 100) == FLAT
    digit = np.zeros((28, 28), np.uint8)
    digit[8:20, 13:15] = 250
    assert look(digit) == ""
    one_colour = np.zeros((400, 400, 3), np.uint8)
    one_colour[..., 1] = noise[0, 0, 0] // 2 + np.arange(400, dtype=np.uint16).astype(np.uint8)[None] // 2
    assert look(one_colour) == ""


def test_nearly_black_images_are_counted_both_ways(tmp_path: Path) -> None:
    for name, high in {"a.png": 60000, "b.png": 3000, "c.png": 2500}.items():
        (tmp_path / name).write_bytes(png(deep(high)))
    source = open_source(tmp_path)
    report = pack(source, tmp_path / "x.beton", workers=2)
    text = "nearly black: 2 of 3 images (b.png, c.png); if they should show more, set the range of their values"
    assert any(text in note for note in report.notes)
    assert report.looks == {DARK: ["b.png", "c.png"]}
    pictures = Pictures(open_source(tmp_path))
    pictures.look()
    assert any(text in note for note in pictures.scan_report.notes)
    assert any("uint16 values: 0 is black, 65,535 is white (16 bits" in note for note in pictures.scan_report.notes)


def test_the_range_of_a_rare_kind_is_said_before_its_image_is_read(tmp_path: Path) -> None:
    grey = png(np.arange(64, dtype=np.uint8).reshape(8, 8))
    for index in range(40):
        (tmp_path / f"{index:02d}.png").write_bytes(grey)
    (tmp_path / "x.png").write_bytes(png(deep(3000)))  # the last in order: no picture whose looks are looked at
    (tmp_path / "y.tif").write_bytes(tiff(deep(3000).astype(np.int32) - 5))
    pictures = Pictures(open_source(tmp_path))
    pictures.look()
    assert any("uint16 values: 0 is black, 4,095 is white (12 bits" in note for note in pictures.scan_report.notes)
    assert any("int32 values -5 to 2,995" in note and "set the range" in note for note in pictures.scan_report.notes)


def test_looks_are_of_pictures_from_all_places(tmp_path: Path) -> None:
    rows = np.arange(64, dtype=np.uint8).reshape(8, 8)
    for index in range(60):
        (tmp_path / f"{index:02d}.png").write_bytes(png(rows * 4 if index < 40 else rows // 16))
    pictures = Pictures(open_source(tmp_path))
    pictures.look()
    notes = pictures.scan_report.notes
    assert any("nearly black: 10 of 32 images" in note for note in notes), notes


def test_large_pictures_are_converted_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    from barlowctl.data.images import ranges, transparency

    whole, alpha = deep(3000), (RAMP * 255).astype(np.uint8)
    data = png(np.dstack([scaled(whole, 0, 3000), alpha]))
    expected = [decode_picture(image).pixels for image in (png(whole), tiff(whole.astype(np.int32)), data)]
    monkeypatch.setattr(ranges, "_AT_ONCE", 70)
    monkeypatch.setattr(transparency, "_AT_ONCE", 70)
    in_pieces = [decode_picture(image).pixels for image in (png(whole), tiff(whole.astype(np.int32)), data)]
    assert all(np.array_equal(a, b) for a, b in zip(in_pieces, expected, strict=True))


def pnm(magic: str, values: np.ndarray, white: int, *, comment: str = "") -> bytes:
    height, width = values.shape[:2]
    header = f"{magic}\n{comment}{width} {height}\n{white}\n".encode()
    plain = magic in ("P2", "P3")
    return header + (" ".join(map(str, values.ravel())).encode() if plain else values.astype(">u2").tobytes())


@pytest.mark.parametrize(("magic", "colours"), [("P5", 1), ("P6", 3), ("P2", 1), ("P3", 3)])
def test_pgm_and_ppm_keep_their_values(magic: str, colours: int) -> None:
    values = deep(3000) if colours == 1 else np.stack([deep(3000), deep(1500), deep(750)], axis=2)
    file = pnm(magic, values, 4095, comment="# made by a camera\n")
    assert np.array_equal(decode_picture(file).pixels, scaled(values, 0, 4095))
    set_by_hand = Conversion(Choices("500:3000"), Ranges("500:3000"))  # the file's values, not Pillow's sixteenfold
    assert np.array_equal(decode_picture(file, set_by_hand).pixels, scaled(values, 500, 3000))
    assert np.array_equal(decode_picture(pnm(magic, values, 65535)).pixels, scaled(values, 0, 4095))  # the type's
    decoded = decode_picture(pnm(magic, values, 3001))
    assert np.array_equal(decoded.pixels, scaled(values, 0, 3001))
    assert decoded.notes == ["uint16, 0 to the largest value that the file states as 8 bits"]
    with pytest.raises(Unreadable, match="truncated"):
        decode_picture(file[: len(file) // 2])


@pytest.mark.parametrize("compression", [None, "tiff_lzw"])
@pytest.mark.parametrize(("dtype", "nodata"), [(np.float32, -9999), (np.uint16, 65535), (np.float32, -3.4028235e38)])
def test_nodata_does_not_count_and_is_black(dtype: type, nodata: float, compression: str | None) -> None:
    values = deep(200, dtype) if dtype is np.uint16 else (RAMP * 250).astype(dtype)
    values[3:6] = nodata
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[42113] = str(nodata)
    stream = io.BytesIO()
    Image.fromarray(values).save(stream, "TIFF", tiffinfo=tags, compression=compression)
    expected = scaled(values, 0, 255)
    expected[3:6] = 0
    decoded = decode_picture(stream.getvalue())
    assert np.array_equal(decoded.pixels, expected)
    assert "values cut off" not in decoded.notes
    white_is_0 = stream.getvalue().replace(b"\x06\x01\x03\0\x01\0\0\0\x01\0", b"\x06\x01\x03\0\x01\0\0\0\0\0")
    turned = 255 - scaled(values, 0, 255)
    turned[3:6] = 0
    assert np.array_equal(decode_picture(white_is_0).pixels, turned)


def test_types_have_ranges_of_their_own(tmp_path: Path) -> None:
    low = deep(1500).astype(np.int16) - 500
    for name, data in {"a.tif": tiff(low), "b.png": png(deep(3000)), "c.tif": tiff(RAMP.astype(np.float32))}.items():
        (tmp_path / name).write_bytes(data)
    source = open_source(tmp_path)
    with pytest.raises(UnreadableImage) as caught:
        Pictures(source).image(0)
    assert caught.value.next == "--set data.range=int16=-500:1000"  # alone it would darken the others
    for setting, white in (("int16=-500:1000", 4095), ("int16=-500:1000,uint16=0:3000", 3000)):
        assert load("quickstart", [f"data.range={setting}"]).data.range == setting
        pictures = Pictures(source, conversion_of(source, Choices(setting)))
        assert np.array_equal(pictures.image(0)[..., 0], scaled(low, -500, 1000))
        assert np.array_equal(pictures.image(1)[..., 0], scaled(deep(3000), 0, white))
        assert np.array_equal(pictures.image(2)[..., 0], scaled(RAMP.astype(np.float32), 0, 1))
    again = Ranges("uint16=0:3000", sample=lambda: iter([Deep(low, "int16")]))
    with pytest.raises(Unreadable) as missing:
        again.of(Deep(low, "int16"))
    assert missing.value.setting == "range=uint16=0:3000,int16=-500:1000"


@pytest.mark.parametrize(
    ("bits_of_both", "text"), [(12, "uint16=0:4095"), (14, "uint16 (12 bits)=0:4095,uint16 (14 bits)=0:16383")]
)
def test_what_files_state_is_set_for_others_as_it_is_read(bits_of_both: int, text: str) -> None:
    """Ranges of kinds that state their bits become a setting that gives each kind its own."""
    values = deep(4095)
    kinds = [Deep(values, "uint16", bits=12), Deep(values, "uint16", bits=bits_of_both)]
    read = Conversion(Choices(), Ranges(sample=lambda: iter(kinds)))
    expected = [read.ranges.of(kind).to_8_bits(values)[0] for kind in kinds]
    for conversion in (read, Conversion.noted(read.as_dict())):
        others = conversion.for_others()
        assert others.range == text
        assert load("quickstart", [f"data.range={text}"]).data.range == text
        ranges = Ranges(others.range)
        for kind, pixels in zip(kinds, expected, strict=True):
            assert np.array_equal(ranges.of(kind).to_8_bits(values)[0], pixels)


@pytest.mark.parametrize(
    "text", ["uint16=0:1,0:2", "0:1,uint16=0:2", "uint16=0:1,uint16=0:2", "=0:1", "uint16:0:1", "a,b"]
)
def test_wrong_ranges_are_refused_alike(text: str) -> None:
    with pytest.raises(UserError, match="the range is"):
        Choices(text)
    with pytest.raises(UserError, match="range is"):
        load("quickstart", [f"data.range={text}"])


def tile(dtype: type = np.uint16) -> np.ndarray:
    """13 bands of one picture of values from 0 to 1, band 10 as dim as the haze that it sees."""
    tops = np.array([3000.0, 2500, 2600, 2700, 2900, 3500, 4100, 4000, 1200, 60, 3300, 2500, 4200])
    return np.rint(RAMP[..., None] * tops).astype(dtype)


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float32])
def test_each_band_by_its_own_range(dtype: type) -> None:
    """Against the formula, and each band as an image of it alone."""
    values = tile(dtype)
    ends = [(0, 100 * (band + 1)) for band in range(13)]
    of_bands = Ranges("/".join(f"{low}:{high}" for low, high in ends))
    pixels, cut = of_bands.of(Deep(values, values.dtype.name)).to_8_bits(values)
    assert cut
    for band, (low, high) in enumerate(ends):
        assert np.array_equal(pixels[..., band], scaled(values[..., band], low, high))
    large = np.tile(values, (16, 8, 1))  # above what one table of 16 bits pays for
    tiled = of_bands.of(Deep(large, values.dtype.name)).to_8_bits(large)[0]
    assert np.array_equal(tiled, np.tile(pixels, (16, 8, 1)))
    inside = Ranges("/".join(["0:5000"] * 13)).of(Deep(values, "uint16"))
    assert not inside.to_8_bits(values)[1]


def test_each_band_is_measured_over_the_data_set(tmp_path: Path) -> None:
    """0.1 percent of a band's values lie beyond each end, in all images together; a dim band has all 256 levels."""
    rng = np.random.default_rng(0)
    tiles = [rng.permuted(tile().reshape(600, 13), axis=0).reshape(20, 30, 13) // (1 + index) for index in range(3)]
    for index, values in enumerate(tiles):
        (tmp_path / f"{index}.tif").write_bytes(tiff(values, photometric="minisblack", planarconfig="contig"))
    source, choices = open_source(tmp_path), Choices("per-band", bands=tuple(range(1, 14)))
    conversion = conversion_of(source, choices)
    pictures = Pictures(source, conversion)
    together = np.concatenate([values.reshape(600, 13) for values in tiles])
    ends = np.quantile(together, [0.001, 0.999], axis=0, method="nearest")
    for index, values in enumerate(tiles):
        image = pictures.image(index)
        for band in range(13):
            assert np.array_equal(image[..., band], scaled(values[..., band], *ends[:, band]))
    text = "uint16=" + "/".join(f"{low:.0f}:{high:.0f}" for low, high in ends.T)
    assert conversion.for_others() == Choices(text, bands=choices.bands)
    assert Conversion.noted(conversion.as_dict()).for_others() == conversion.for_others()
    assert f"black and white of the 13 bands are {text.removeprefix('uint16=')}" in conversion.notes()[0]
    again = Pictures(source, conversion_of(source, conversion.for_others()))
    assert np.array_equal(again.image(1), pictures.image(1))


def test_bands_that_hold_nothing_take_no_part_in_their_range() -> None:
    values = tile(np.float32)
    values[:2, :, 3], values[4, 0, 5], values[:, :, 7], values[..., 8] = -9999, np.nan, -9999, 5
    ranges = Ranges("per-band", sample=lambda: iter([Deep(values, "float32", nodata=-9999)]))
    used = ranges.of(Deep(values, "float32", nodata=-9999))
    assert (used.bands[3][0] > 0, used.bands[5][0], used.bands[7], used.bands[8]) == (True, 6, (0, 1), (5, 6))
    pixels, cut = used.to_8_bits(values, -9999)
    assert cut  # the 0.1 percent
    assert (pixels[:2, :, 3].max(), pixels[4, 0, 5], pixels[..., 7].max(), pixels[..., 8].max()) == (0, 0, 0, 0)


@pytest.mark.parametrize("stated", [{"bits": 12}, {"white": 4095}], ids=["bits", "white"])
def test_per_band_and_kinds_that_are_set_go_before_what_files_state(stated: dict[str, int]) -> None:
    values = Deep(np.minimum(tile(), 4095), "uint16", **stated)
    measured = Ranges("per-band", sample=lambda: iter([values])).of(values)
    assert measured.bands[9] == (0, 60)
    kind = "uint16 (12 bits)" if "bits" in stated else "uint16"
    chosen = Ranges(f"{kind}=0:1000,float32=0:1").of(values)
    assert (chosen.low, chosen.high) == (0, 1000)


def test_ranges_of_other_numbers_of_bands_are_refused() -> None:
    with pytest.raises(Unreadable, match="it has 13 bands, and the range is of 2"):
        Ranges("0:1/0:2").of(Deep(tile(), "uint16"))
    with pytest.raises(UserError, match="of 2 bands, and 3 were chosen"):
        Choices("0:1/0:2", bands=(4, 3, 2))
    with pytest.raises(UserError, match="of 2 bands, and bands chooses 3"):
        load("quickstart", ["data.range=0:1/0:2", "data.bands=[4,3,2]"])
    assert load("quickstart", ["data.range=0:1/0:2/0:3", "data.bands=[4,3,2]"]).data.range == "0:1/0:2/0:3"
    grey = Ranges("per-band").of(Deep(deep(3000), "uint16"))  # a single band has a range as others are
    assert (grey.bands, grey.low, grey.high) == ((), 5, 2995)


def test_the_sample_of_large_images_is_small_and_the_same_each_time() -> None:
    from barlowctl.data.images.band_values import BandValues

    ramp = np.arange(1 << 18, dtype=np.uint16).reshape(512, 512)
    both = [BandValues(), BandValues()]
    for values in both:
        values.add(np.stack([ramp, ramp // 2], axis=-1))
        values.add(ramp)  # of another number of bands: it is refused when it is read
    assert both[0].ends() == both[1].ends()
    assert sum(part.nbytes for part in both[0]._parts) == 2 << 16
    (low, high), half = both[0].ends()
    assert low < 200
    assert high > 65300
    assert half[1] == pytest.approx(high / 2, abs=1)
