"""Images with another number of bands than the others are named, whatever reads them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from barlowctl.data.beton.pack import pack
from barlowctl.data.images.band_counts import BandCounts
from barlowctl.data.images.conversion import Choices
from barlowctl.data.images.pixels import read_parts
from barlowctl.data.images.unreadable import Unreadable
from barlowctl.data.loaders.plain import Pictures
from barlowctl.data.sources import open_source
from barlowctl.data.sources.sample import conversion_of


def tile(path: Path, bands: int) -> None:
    values = np.random.default_rng(bands).integers(0, 3000, (16, 16, bands), dtype=np.uint16)
    tifffile.imwrite(path, values, photometric="minisblack", planarconfig="contig")


@pytest.mark.parametrize("reader", ["packed", "as they lie"])
def test_a_tile_with_a_band_less_is_named(tmp_path: Path, reader: str) -> None:
    (tmp_path / "tiles").mkdir()
    for number in range(4):
        tile(tmp_path / f"tiles/{number}.tif", 12 if number == 2 else 13)
    Image.new("RGB", (16, 16), (9, 99, 200)).save(tmp_path / "tiles/quick.tif")
    source = open_source(tmp_path / "tiles")
    conversion = conversion_of(source, Choices(bands=(4, 3, 2), range="0:3000"))
    if reader == "packed":
        notes = pack(source, tmp_path / "a.beton", conversion=conversion).notes
    else:
        pictures = Pictures(source, conversion)
        pictures.look()
        notes = pictures.scan_report.notes
    assert (
        "1 image with 12 bands (2.tif), and 3 with 13 bands: bands 4, 3, 2 of all, by number; a band may be another "
        "one there"
    ) in notes
    assert "1 image with three or fewer (quick.tif), and 3 with 13 bands" in notes


def test_images_of_one_kind_are_no_news() -> None:
    assert BandCounts().lines(()) == []
    alike = BandCounts()
    for bands in (0, 1, 3):
        alike.add(bands, "a")
    assert alike.lines(()) == []
    for number in range(5):
        alike.add(13, str(number))
    assert alike.lines(()) == ["3 images with three or fewer (a, a, a), and 5 with 13 bands"]


@pytest.mark.parametrize(("dtype", "range_"), [("uint8", "auto"), ("uint16", "0:3000"), ("float32", "0:3000")])
def test_pages_of_one_size_are_bands_where_any_are_chosen(tmp_path: Path, dtype: str, range_: str) -> None:
    (tmp_path / "tiles").mkdir()
    pages = np.stack([np.full((16, 16), 10 * (page + 1)) for page in range(13)]).astype(dtype)
    tifffile.imwrite(tmp_path / "tiles/0.tif", pages, photometric="minisblack")
    source = open_source(tmp_path / "tiles")
    for bands, expected in (((4, 3, 2), (40, 30, 20)), ((8,), (80,)), ((), (10,))):
        pictures = Pictures(source, conversion_of(source, Choices(bands=bands, range=range_)))
        factor = 1 if dtype == "uint8" else 255 / 3000
        pixels = pictures.image(0).reshape(-1, 3)
        assert (pixels == [round(factor * value) for value in (expected * 3)[:3]]).all()
    report = pack(
        source, tmp_path / "a.beton", conversion=conversion_of(source, Choices(bands=(4, 3, 2), range=range_))
    )
    assert report.channels == 3
    assert any("bands 4, 3, 2 of 13 pages" in note for note in report.changed)


def test_pages_of_several_sizes_are_no_bands(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        for side in (16, 8):
            writer.write(np.full((side, side), 7, np.uint16), photometric="minisblack")
    parts = read_parts((tmp_path / "a.tif").read_bytes(), (2, 1, 2))
    assert parts.bands == 1
    assert parts.notes == ["first of several pictures"]


def test_a_page_that_is_not_there_is_refused(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((5, 16, 16), np.uint16), photometric="minisblack")
    with pytest.raises(Unreadable, match=r"5 pages of uint16; there is no band 8 \(see --bands"):
        read_parts((tmp_path / "a.tif").read_bytes(), (8, 4, 3))


def test_bands_that_were_chosen_from_nothing_are_said() -> None:
    counts = BandCounts()
    for name in ("B02", "B03"):
        counts.add(0, name)
    (line,) = counts.lines((4, 3, 2))
    assert line.startswith("bands 4, 3, 2 were not chosen from anything: no image has more than three")
