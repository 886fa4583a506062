"""The one style: colours that can be told apart, numbers, and that nothing is drawn in another one."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from barlowctl.cli import chart
from barlowctl.plots import panels, style, text, vector
from barlowctl.plots.lettering import lettering
from barlowctl.plots.svg import line_classes

# Everything that draws; what it draws with stands in plots/style.py alone.
DRAWS = ("plots", "report", "study/figure.py", "data/preview.py", "cli/chart.py")
COLOR = re.compile(r"#[0-9a-fA-F]{6}\b|\(\d{1,3}, \d{2,3}, \d{2,3}\)")


@pytest.mark.parametrize(
    ("value", "digits"),
    [
        (0.0, "0"), (1.0, "1"), (-2.5, "-2.5"), (12.34567, "12.35"), (9999.0, "9999"), (12_500.0, "12.5k"),
        (640_000.0, "640k"), (2.5e6, "2.5e6"), (0.001, "0.001"), (0.00012, "0.00012"), (1e-5, "1e-5"),
        (-3.2e-9, "-3.2e-9"), (float("nan"), "nan"),
    ],
)  # fmt: skip
def test_numbers(value: float, digits: str) -> None:
    assert style.number(value) == digits


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
    for count in (2, 6, 7, 8, 10):
        assert len({style.class_color(label, count) for label in range(count)}) == count
    assert style.class_color(1, 5) == style.VERMILION
    assert style.BLACK not in {style.class_color(label, count) for count in range(2, 40) for label in range(count)}


# Machado, Oliveira and Fernandes 2009, severity 1: of linear RGB.
DEUTERANOPIA = np.array(
    [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]]
)
PROTANOPIA = np.array(
    [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
)
TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
WHITE = np.array([0.9505, 1.0, 1.089])


def lab(colors: list[style.Color], vision: np.ndarray) -> np.ndarray:
    """CIELAB of sRGB colours (N, 3) as a vision has them."""
    values = np.array(colors) / 255
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    xyz = np.clip(linear @ vision.T, 0, 1) @ TO_XYZ.T / WHITE
    roots = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    x, y, z = roots.T
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=1)


@pytest.mark.parametrize("vision", [np.eye(3), DEUTERANOPIA, PROTANOPIA], ids=["usual", "deuteranopia", "protanopia"])
@pytest.mark.parametrize("count", range(2, 11))
def test_up_to_ten_classes_are_told_apart_by_everybody(count: int, vision: np.ndarray) -> None:
    """Colours around the circle are 7 apart at ten."""
    seen = lab([style.class_color(label, count) for label in range(count)], vision)
    distances = np.linalg.norm(seen[:, None] - seen[None], axis=2)[np.triu_indices(count, 1)]
    assert distances.min() > 14


def contrast(one: style.Color, other: style.Color) -> float:
    """WCAG 2.1: from 1 to 21; 3 is asked for of large letters and of parts of figures."""
    values = np.array([one, other]) / 255
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    low, high = sorted(linear @ TO_XYZ[1])
    return float((high + 0.05) / (low + 0.05))


@pytest.mark.parametrize("color", [*style.SERIES, *style.CLASSES, style.PAPER, style.INK])
def test_letters_are_read_on_every_colour(color: style.Color) -> None:
    assert contrast(style.against(color), color) > 3


def test_no_line_looks_as_one_of_the_27_before_it() -> None:
    looks = [(style.series_color(number), style.series_dash(number)) for number in range(28)]
    assert len(set(looks)) == 28
    assert {style.series_dash(number) for number in range(7)} == {()}
    assert looks[7] == (style.series_color(0), (7, 3))
    assert len({(color, dash) for color, dash in map(str.split, map(line_classes, range(7, 28)))}) == 21
    assert line_classes(0) == "c0"
    assert "path.d1 { stroke-dasharray: 7 3; }" in style.css()
    assert len(set(chart.MARKS)) == len(chart.MARKS) > 28


def test_dashes_go_on_around_a_corner() -> None:
    strokes = panels.broken([(0.0, 0.0), (5.0, 0.0), (5.0, 15.0)], (7, 3))
    assert strokes == [[(0.0, 0.0), (5.0, 0.0), (5.0, 2.0)], [(5.0, 5.0), (5.0, 12.0)]]
    assert panels.broken([(0.0, 0.0), (5.0, 0.0)], ()) == [[(0.0, 0.0), (5.0, 0.0)]]


def test_an_eighth_line_is_dashed_in_pictures_for_the_screen_and_for_paper() -> None:
    series = {str(number): [(float(x), float(number)) for x in range(100)] for number in range(8)}
    picture = np.asarray(panels.panels_image([panels.Panel("loss", series)]))
    near = np.abs(picture.astype(int) - style.BLUE).max(axis=2) < 40
    in_blue = near[: -8 * panels.LEGEND_LINE - 16].sum(axis=1)
    whole, dashed = (max(part) for part in (in_blue[len(in_blue) // 2 :], in_blue[: len(in_blue) // 2]))
    assert whole > 400
    assert 0.5 * whole < dashed < 0.8 * whole
    axes = vector.panels_figure([panels.Panel("loss", series)], lettering([])).axes[0]
    assert [line.get_linestyle() for line in axes.lines] == 7 * ["-"] + ["--"]


def test_a_picture_has_one_font(monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers beside a formula were in the machine's font, and those of the next panel in Pillow's."""
    fonts: set[frozenset[str]] = set()

    def noted(size: float, texts: Iterable[str] = ()) -> text.Font:
        fonts.add(frozenset(texts))
        return text.font(size)

    monkeypatch.setattr(panels, "font", noted)
    series = {"a": [(0.0, 1.0), (1.0, 2.0)]}
    panels.panels_image([panels.Panel("one", series, meaning="Σ"), panels.Panel("two", series)])
    assert fonts == {frozenset({"one", "two", "Σ", "", "a", "step"})}


def colors_of(picture: Image.Image) -> set[tuple[int, int, int]]:
    return {tuple(color) for color in np.asarray(picture).reshape(-1, 3)}


def test_every_picture_of_lines_has_these_colours() -> None:
    curves = panels.curves({"loss": {"a": [(0, 1.0), (9, 5.0)], "b": [(0, 9.0), (9, 2.0)]}})
    spectra = panels.spectra({"a": np.array([1.0, 0.5, 0.1]), "b": np.array([0.3, 0.2, 0.0])}, "Spectra")
    for picture in (curves, spectra):
        assert {style.PAPER, style.series_color(0), style.series_color(1)} <= colors_of(picture)
