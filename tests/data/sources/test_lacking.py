"""Images that lack bands and a range: both are advised at once, and what is advised reads them."""

from __future__ import annotations

import pickle
import shlex
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from barlowctl.cli.app import run as barlowctl
from barlowctl.data.beton.pack import flag_of
from barlowctl.data.beton.survey import survey
from barlowctl.data.images.conversion import Choices
from barlowctl.data.images.unreadable import UnreadableImage
from barlowctl.data.loaders.plain import Pictures
from barlowctl.data.sources import open_source
from barlowctl.data.sources.sample import conversion_of

LOW, HIGH = -500, 2300
ALL = f"bands=[4,3,2] range={LOW}:{HIGH}"


@pytest.fixture
def cubes(tmp_path: Path) -> Path:
    """Tiles of four bands of which the first, which no advice chooses, has values beyond the others'."""
    folder = tmp_path / "cubes"
    folder.mkdir()
    for index, (low, high) in enumerate([(-200, HIGH), (LOW, 900), (0, 100)]):
        values = np.linspace(low, high, 12 * 10).reshape(12, 10)
        cube = np.dstack([values * 3, values, values, values]).astype(np.int16)
        tifffile.imwrite(folder / f"{index}.tif", cube, photometric="minisblack", planarconfig="contig")
    return folder


def test_the_range_is_that_of_the_bands_that_are_advised(cubes: Path) -> None:
    """Of all images, and not of the one that could not be read; and a copy in another process says the same."""
    pictures = Pictures(open_source(cubes))
    for one in (pictures, pickle.loads(pickle.dumps(pictures))):
        with pytest.raises(UnreadableImage) as raised:
            one.image(2)
        assert raised.value.next == f"--set data.bands=[4,3,2] --set data.range={LOW}:{HIGH}"
    assert survey(open_source(cubes)).setting == ALL


def test_what_is_advised_packs_all_images(
    cubes: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(cubes.parent)
    assert barlowctl(["data", "pack", "cubes", "./cubes.beton"]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("next: ")]
    assert line == f"next: barlowctl data pack cubes ./cubes.beton --bands 4,3,2 --range {LOW}:{HIGH}"
    assert barlowctl(shlex.split(line)[2:]) == 0
    assert "3 images" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("choices", "lacks"),
    [
        (Choices(), ALL),
        (Choices(range="0:9"), "bands=[4,3,2]"),
        (Choices(bands=(1,)), f"range={3 * LOW}:{3 * HIGH}"),
        (Choices(bands=(5,)), ""),
    ],
)
def test_what_is_set_already_is_not_advised(cubes: Path, choices: Choices, lacks: str) -> None:
    source = open_source(cubes)
    with pytest.raises(UnreadableImage) as raised:
        Pictures(source, conversion_of(source, choices)).image(0)
    assert raised.value.setting == " ".join(f"--set data.{setting}" for setting in lacks.split())


def test_images_of_two_kinds_lack_what_each_lacks(cubes: Path) -> None:
    """Scans of one band without a range, among tiles of four bands of 8 bits, without bands."""
    folder = cubes.parent / "both"
    folder.mkdir()
    tifffile.imwrite(folder / "a.tif", np.full((8, 8), -7, np.int16))
    tifffile.imwrite(folder / "b.tif", np.ones((8, 8, 4), np.uint8), photometric="minisblack", planarconfig="contig")
    Image.new("L", (8, 8)).save(folder / "c.png")
    assert survey(open_source(folder)).setting == "range=-7:-6 bands=[4,3,2]"


def test_settings_as_flags_of_the_command() -> None:
    assert flag_of(ALL) == f"--bands 4,3,2 --range {LOW}:{HIGH}"
    assert flag_of("") == ""
