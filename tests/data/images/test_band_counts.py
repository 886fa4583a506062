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
    assert alike.lines((4, 3, 2)) == []
    for number in range(5):
        alike.add(13, str(number))
    assert alike.lines(()) == ["3 images with three or fewer (a, a, a), and 5 with 13 bands"]
