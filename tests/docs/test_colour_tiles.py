"""docs/study/colour_tiles.py: what is learned from and what is tested on come from different parts of a picture."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image


@pytest.fixture(scope="module")
def colour_tiles(script_of: Callable[[str], ModuleType]) -> ModuleType:
    return script_of("study/colour_tiles.py")


def corners(folder: Path) -> set[tuple[int, int]]:
    """Of tiles whose red is the column and whose green the row they came from: column and row of the first pixel."""
    return {tuple(np.asarray(Image.open(path))[0, 0, :2]) for path in folder.glob("*.png")}


def test_no_pixel_is_in_both_splits(colour_tiles: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(colour_tiles, "TRAINING_TILES", 48)
    monkeypatch.setattr(colour_tiles, "TEST_TILES", 16)
    rows, columns = np.mgrid[:240, :252]
    noise = np.random.default_rng(0).integers(0, 256, rows.shape)
    picture = tmp_path / "Meadow_by_Nobody.png"
    Image.fromarray(np.stack([columns, rows, noise], axis=2).astype(np.uint8)).save(picture)
    assert colour_tiles.write_tiles(picture, tmp_path / "set") == (48, 16)

    seen = {}
    for split in ("train", "test"):
        mask = np.zeros((240, 252), bool)
        for left, top in corners(tmp_path / "set" / split / "meadow"):
            assert left // 63 == (left + colour_tiles.TILE - 1) // 63  # within one block
            assert top // 60 == (top + colour_tiles.TILE - 1) // 60
            mask[top : top + colour_tiles.TILE, left : left + colour_tiles.TILE] = True
        seen[split] = mask
    assert not (seen["train"] & seen["test"]).any()
    blocks = [[seen["test"][60 * r : 60 * r + 60, 63 * c : 63 * c + 63].any() for c in range(4)] for r in range(4)]
    assert np.array(blocks).sum(axis=0).tolist() == [1, 1, 1, 1]
    assert np.array(blocks).sum(axis=1).tolist() == [1, 1, 1, 1]


def test_a_part_without_anything_in_it_is_no_tile(
    colour_tiles: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(colour_tiles, "TRAINING_TILES", 12)
    monkeypatch.setattr(colour_tiles, "TEST_TILES", 4)
    picture = tmp_path / "sky.png"
    Image.new("RGB", (200, 200), (90, 120, 250)).save(picture)
    assert colour_tiles.write_tiles(picture, tmp_path / "set") == (0, 0)


def test_a_picture_that_is_missing_is_named(colour_tiles: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"Bridge_by_Sander_Klootwijk.*lomiri-wallpapers-16\.04"):
        colour_tiles.find(tmp_path)


def test_the_folder_appears_whole(colour_tiles: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture = tmp_path / "sky.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8)).save(picture)
    folder = tmp_path / "new" / "tiles"
    monkeypatch.setattr(colour_tiles, "TRAINING_TILES", 12)
    monkeypatch.setattr(colour_tiles, "TEST_TILES", 4)
    monkeypatch.setattr(colour_tiles, "find", lambda pictures: [picture, tmp_path / "none.png"])
    with pytest.raises(FileNotFoundError):
        colour_tiles.main([str(folder), "--pictures", str(tmp_path)])
    assert list(folder.parent.iterdir()) == []
    monkeypatch.setattr(colour_tiles, "find", lambda pictures: [picture])
    colour_tiles.main([str(folder), "--pictures", str(tmp_path)])
    assert len(list((folder / "train" / "sky").iterdir())) == 12
