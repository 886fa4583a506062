"""The one style: colours that can be told apart, numbers, and that nothing is drawn in another one."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from barlowctl.plots import panels, style
from barlowctl.plots.scatter import scatter

# Everything that draws; what it draws with stands in plots/style.py alone.
DRAWS = ("plots", "report", "study/figure.py", "data/preview.py", "cli/chart.py")
COLOR = re.compile(r"#[0-9a-fA-F]{6}\b|\(\d{1,3}, \d{2,3}, \d{2,3}\)")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"), (1.0, "1"), (-2.5, "-2.5"), (12.34567, "12.35"), (9999.0, "9999"), (12_500.0, "12.5k"),
        (640_000.0, "640k"), (2.5e6, "2.5e6"), (0.001, "0.001"), (0.00012, "0.00012"), (1e-5, "1e-5"),
        (-3.2e-9, "-3.2e-9"), (float("nan"), "nan"),
    ],
)  # fmt: skip
def test_numbers(value: float, text: str) -> None:
    assert style.number(value) == text


def test_colors_are_named_in_one_place(checkout: Path) -> None:
    package = checkout / "barlowctl"
    files = [file for name in DRAWS for file in (package / name, *(package / name).rglob("*")) if file.is_file()]
    sources = [file for file in files if file.suffix in (".py", ".html") and file.name != "style.py"]
    assert len(sources) > 10
    assert {file.name: COLOR.findall(file.read_text()) for file in sources if COLOR.search(file.read_text())} == {}


def test_a_page_has_the_colours_of_pictures_and_lighter_ones_in_the_dark() -> None:
    light, dark = style.css().split("@media")
    for index, color in enumerate(style.SERIES):
        assert f"--c{index}: {style.hexadecimal(color)};" in light
        assert f"path.c{index} {{ stroke: var(--c{index}); }}" in dark
    match = re.search(r"--c0: #(\w\w)(\w\w)(\w\w)", dark)
    assert match is not None
    assert all(int(lighter, 16) > own for lighter, own in zip(match.groups(), style.SERIES[0], strict=True))


def test_classes_have_colours_of_their_own() -> None:
    assert style.class_color(-1, 3) == style.UNLABELLED
    for count in (2, 6, 7, 8, 20):
        assert len({style.class_color(label, count) for label in range(count)}) == count
    assert style.class_color(1, 5) == style.VERMILION
    assert style.BLACK not in {style.class_color(label, count) for count in range(2, 40) for label in range(count)}


def colors_of(picture: Image.Image) -> set[tuple[int, int, int]]:
    return {tuple(color) for color in np.asarray(picture).reshape(-1, 3)}


def test_every_picture_of_lines_and_points_has_these_colours() -> None:
    curves = panels.curves({"loss": {"a": [(0, 1.0), (9, 5.0)], "b": [(0, 9.0), (9, 2.0)]}})
    spectra = panels.spectra({"a": np.array([1.0, 0.5, 0.1]), "b": np.array([0.3, 0.2, 0.0])}, "Spectra")
    for picture in (curves, spectra):
        assert {style.PAPER, style.series_color(0), style.series_color(1)} <= colors_of(picture)
    points = scatter(np.array([[0.0, 0.0], [1.0, 1.0]]), np.array([0, 1]), ["cat", "dog"], "map")
    assert {style.PAPER, style.series_color(0), style.series_color(1)} <= colors_of(points)
