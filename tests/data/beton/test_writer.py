"""What the writer of packed files refuses of its caller, with or without `python -O`."""

from __future__ import annotations

from pathlib import Path

import pytest

from barlowctl.data.beton.layout import JPEG, RAW
from barlowctl.data.beton.writer import BetonWriter

PIXELS = bytes(4 * 4 * 3)


@pytest.mark.parametrize("page_size", [1 << 20, 3 << 20, 1 << 40])
def test_a_page_size_that_no_reader_takes(tmp_path: Path, page_size: int) -> None:
    with pytest.raises(ValueError, match=f"pages of {page_size} bytes"):
        BetonWriter(tmp_path / "a.beton", 1, page_size=page_size)
    assert list(tmp_path.iterdir()) == []


def test_images_that_are_none_and_one_too_many(tmp_path: Path) -> None:
    with BetonWriter(tmp_path / "a.beton", 1) as writer:
        with pytest.raises(ValueError, match="47 bytes are no image of 4x4 pixels"):
            writer.append(PIXELS[:-1], mode=RAW, width=4, height=4)
        with pytest.raises(ValueError, match="0 bytes are no image"):
            writer.append(b"", mode=JPEG, width=4, height=4)
        with pytest.raises(ValueError, match="would have no images"):
            writer.finish()
        writer.append(PIXELS, mode=RAW, width=4, height=4)
        with pytest.raises(ValueError, match="room for 1 images"):
            writer.append(PIXELS, mode=RAW, width=4, height=4)
        writer.finish()
    assert [file.name for file in tmp_path.iterdir()] == ["a.beton"]


def test_names_of_some_images_only(tmp_path: Path) -> None:
    with BetonWriter(tmp_path / "a.beton", 2) as writer:
        writer.append(PIXELS, mode=RAW, width=4, height=4, name="first.png")
        writer.append(PIXELS, mode=RAW, width=4, height=4)
        with pytest.raises(ValueError, match="1 of 2 images have names"):
            writer.finish()
    assert list(tmp_path.iterdir()) == []
