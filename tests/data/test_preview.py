"""The contact sheet shows the originals and what the loader really yields."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from barlowctl.data.beton.layout import RAW
from barlowctl.data.beton.reader import Beton
from barlowctl.data.beton.writer import BetonWriter
from barlowctl.data.loaders.fast import FastLoader
from barlowctl.data.preview import CELL, SMALLEST, contact_sheet, preview
from barlowctl.data.views.spec import CenterSpec, ViewSpec
from barlowctl.errors import UserError


@pytest.fixture
def beton(tmp_path) -> Beton:
    random = np.random.default_rng(0)
    with BetonWriter(tmp_path / "a.beton", 9, class_names=["cat", "ŝafo"]) as writer:
        for i in range(9):
            pixels = random.integers(0, 256, (28, 28, 3), dtype=np.uint8)
            writer.append(pixels, mode=RAW, width=28, height=28, label=i % 3 - 1)
        writer.finish()
    return Beton.open(tmp_path / "a.beton")


def contains(sheet: np.ndarray, tile: np.ndarray) -> bool:
    """Whether a tile appears in the sheet, pixel for pixel."""
    height, width = tile.shape[:2]
    starts = np.argwhere((sheet[: -height + 1, : -width + 1] == tile[0, 0]).all(axis=2))
    return any(np.array_equal(sheet[y : y + height, x : x + width], tile) for y, x in starts)


def enlarged(tile: np.ndarray) -> np.ndarray:
    factor = SMALLEST // tile.shape[0]
    return np.repeat(tile, 3 // tile.shape[2], axis=2).repeat(factor, axis=0).repeat(factor, axis=1)


@pytest.mark.parametrize(("samples", "shown", "channels"), [(3, 3, 3), (100, 9, 1)])
def test_originals_and_the_loaders_views_are_on_the_sheet(tmp_path, beton, samples, shown, channels):
    specs = [ViewSpec(28), ViewSpec(28, blur=0.1, solarize=0.2)]
    out = preview(beton, specs, tmp_path / "deep" / "x.png", samples=samples, seed=5, channels=channels)
    assert out.samples == shown
    sheet = np.array(Image.open(out.path))
    rows = np.arange(9)
    loader = FastLoader(beton, views=specs, batch_size=9, seed=5, channels=channels, shuffle=False, subset=rows)
    with loader:
        batch = next(iter(loader.epoch(0)))
        views = [view.numpy().copy() for view in batch.views]
    there = [i for i in range(9) if contains(sheet, enlarged(beton.image(i)))]
    assert len(there) == shown
    for i in there:
        assert contains(sheet, enlarged(views[0][i]))
        assert contains(sheet, enlarged(views[1][i]))


def test_the_draw_depends_on_the_seed_only(tmp_path, beton):
    def sheet(seed: int) -> bytes:
        return preview(beton, [ViewSpec(28)], tmp_path / "x.png", samples=4, seed=seed).path.read_bytes()

    assert sheet(1) == sheet(1)
    assert sheet(1) != sheet(2)


def test_large_images_are_shrunk_to_the_cell(beton):
    sheet = contact_sheet(
        [("one", [np.zeros((3000, 100, 3), np.uint8), np.zeros((500, 500, 3), np.uint8)])], ["a", "b"]
    )
    assert sheet.width < 2 * CELL + 50
    assert sheet.height < CELL + 80


def test_a_long_title_is_cut(beton):
    rows = [("x" * 1000, [np.zeros((28, 28, 3), np.uint8)] * 2)]
    assert contact_sheet(rows, ["a", "b"]).size == contact_sheet([("x", rows[0][1])], ["a", "b"]).size


def test_bad_input(tmp_path, beton):
    with pytest.raises(UserError, match="samples is 0"):
        preview(beton, [CenterSpec(28, 28)], tmp_path / "x.png", samples=0)
    (tmp_path / "folder").mkdir()
    with pytest.raises(UserError, match="cannot write"):
        preview(beton, [CenterSpec(28, 28)], tmp_path / "folder")
