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
from barlowctl.data.views.spec import CenterSpec, Patch, ViewSpec
from barlowctl.errors import UserError
from barlowctl.plots.images import grid
from barlowctl.plots.style import GRID


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


@pytest.mark.parametrize(("samples", "rows_shown", "channels"), [(3, 3, 3), (100, 9, 1)])
def test_originals_and_the_loaders_views_are_on_the_sheet(tmp_path, beton, samples, rows_shown, channels):
    specs = [ViewSpec(28), ViewSpec(28, blur=0.1, solarize=0.2)]
    out = preview(beton, specs, tmp_path / "deep" / "x.png", samples=samples, seed=5, channels=channels)
    assert out.samples == rows_shown
    sheet = np.array(Image.open(out.path))
    rows = np.arange(9)
    loader = FastLoader(beton, views=specs, batch_size=9, seed=5, channels=channels, shuffle=False, subset=rows)
    with loader:
        batch = next(iter(loader.epoch(0)))
        views = [view.numpy().copy() for view in batch.views]
    there = [i for i in range(9) if contains(sheet, enlarged(beton.image(i)))]
    assert len(there) == rows_shown
    for i in there:
        assert contains(sheet, enlarged(views[0][i]))
        assert contains(sheet, enlarged(views[1][i]))


def test_white_images_have_an_edge_on_white_paper():
    white = np.full((28, 28, 3), 255, np.uint8)
    sheets = [contact_sheet([("a", [white, white])], ["original", "view 1"])]
    sheets.append(grid([[Image.fromarray(white)]], [["a"]]))
    sheets.append(grid([[Image.fromarray(white[:14])]], [["a"]]))
    for sheet in sheets:
        lines = np.argwhere((np.array(sheet) == GRID).all(axis=2))
        assert len(lines) > 200
        (top, left), (bottom, _) = lines.min(axis=0), lines.max(axis=0)
        assert (np.array(sheet)[top + 1 : bottom, left + 1] == 255).all()  # the pictures themselves are whole
        assert (np.array(sheet)[bottom - 1, left + 1 : left + 20] == 255).all()


def test_small_views_and_patches_share_a_column_at_the_scale_of_the_others(tmp_path, beton):
    """2 x 28 + 6 x 10 + 9 patches of 9 pixels: every one is there, in its place, four times as large."""
    patches = [ViewSpec(9, patch=Patch(3, 9, number)) for number in range(9)]
    specs = [ViewSpec(28), ViewSpec(28), *[ViewSpec(10, crop_scale=(0.1, 0.3))] * 6, *patches]
    out = preview(beton, specs, tmp_path / "x.png", samples=2, seed=5)
    sheet = np.array(Image.open(out.path))
    with FastLoader(beton, views=specs, batch_size=9, seed=5, shuffle=False) as loader:
        views = [view.numpy().copy() for view in next(iter(loader.epoch(0))).views]
    there = [i for i in range(9) if contains(sheet, enlarged(beton.image(i)))]
    assert len(there) == 2
    gap = 6
    for i in there:
        assert all(contains(sheet, enlarged(view[i])) for view in views[:2])
        for first, side, across, down in ((2, 10, 3, 2), (8, 9, 3, 3)):
            wide = 4 * side
            grid = np.full((down * (wide + gap) - gap, across * (wide + gap) - gap, 3), 255, np.uint8)
            for number in range(across * down):
                y, x = number // across * (wide + gap), number % across * (wide + gap)
                grid[y : y + wide, x : x + wide] = views[first + number][i].repeat(4, axis=0).repeat(4, axis=1)
            assert contains(sheet, grid)


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
