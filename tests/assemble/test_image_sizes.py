"""How large images are, packed or not, and that views far larger than they are is said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from barlowctl.assemble import image_sizes
from barlowctl.assemble.data import open_images
from barlowctl.assemble.image_sizes import describe_enlargement, shorter_side
from barlowctl.cli.app import run as barlowctl
from barlowctl.recipe import load


def folder(path: Path, sizes: list[tuple[int, int]]) -> Path:
    pixels = np.random.default_rng(0)
    path.mkdir()
    for number, (width, height) in enumerate(sizes):
        Image.fromarray(pixels.integers(0, 255, (height, width, 3), dtype=np.uint8)).save(path / f"{number}.png")
    return path


def test_the_median_of_the_shorter_sides_packed_or_not(tmp_path: Path) -> None:
    images = folder(tmp_path / "photos", [(40, 28), (28, 64), (300, 400)])
    assert shorter_side(open_images(str(images))) == 28
    assert barlowctl(["data", "pack", str(images), str(tmp_path / "p.beton"), "--quiet"]) == 0
    assert shorter_side(open_images(str(tmp_path / "p.beton"))) == 28


def test_large_images_are_not_looked_at_for_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = open_images(str(folder(tmp_path / "photos", [(28, 28), (40, 40), (50, 50)])))
    now = iter(range(0, 100, 2))  # each image takes two seconds
    monkeypatch.setattr(image_sizes.time, "monotonic", lambda: next(now) / 2.0)
    assert shorter_side(images) == 28


def test_images_that_cannot_be_read_are_no_size(tmp_path: Path) -> None:
    images = folder(tmp_path / "photos", [(40, 28)])
    (images / "0.png").write_bytes((images / "0.png").read_bytes()[:60])
    assert shorter_side(open_images(str(images))) is None


def test_views_that_enlarge_images_far_are_a_line_of_their_own(tmp_path: Path) -> None:
    images = open_images(str(folder(tmp_path / "photos", [(28, 28), (30, 30)])))
    (line,) = describe_enlargement(images, load.load("resnet50")).values()
    assert line == (
        "views of 224 pixels enlarge images of 29 (their shorter side, the median) and cost 49 times what views of 32 "
        "do: --set views.size=32 --set eval.resize=32 --set eval.crop=32"
    )
    assert describe_enlargement(images, load.load("fashion-mnist")) == {}
