"""Curves for a paper: every point is drawn where it is, in lines and letters."""

from __future__ import annotations

import xml.etree.ElementTree
from pathlib import Path

import pytest

from barlowctl.plots.lettering import lettering
from barlowctl.plots.panels import Panel
from barlowctl.plots.vector import panels_figure, save_panels

pytest.importorskip("matplotlib")
PANELS = [
    Panel("Loss", {"a": [(1, 1000.0), (10, 1.0)], "b": [(1, 900.0), (10, float("nan"))]}, log_y=True),
    Panel("Online kNN", {"b": [(10, 40.0)]}),
    Panel("Spectrum", {"a": [(1, 2.0), (2, 1.0)]}, x_label="rank", log_x=True),
]


def test_points_are_where_they_are_and_a_series_has_one_colour() -> None:
    loss, knn, spectrum = panels_figure(PANELS, lettering([])).axes
    assert [line.get_xydata().tolist() for line in loss.get_lines()] == [[[1, 1000], [10, 1]], [[1, 900]]]
    assert (loss.get_yscale(), loss.get_title(loc="left") or loss.get_title()) == ("log", "Loss")
    assert (knn.get_yscale(), spectrum.get_xscale(), spectrum.get_xlabel()) == ("linear", "log", "rank")
    assert knn.get_lines()[0].get_color() == loss.get_lines()[1].get_color() != loss.get_lines()[0].get_color()


def test_the_legend_names_each_series_once() -> None:
    (legend,) = panels_figure(PANELS, lettering([])).legends
    assert [text.get_text() for text in legend.get_texts()] == ["a", "b"]


def test_files_are_vectors_and_the_same_for_the_same_panels(tmp_path: Path) -> None:
    for ending in ("pdf", "svg"):
        files = [tmp_path / f"{number}.{ending}" for number in range(2)]
        for file in files:
            save_panels(PANELS, file)
        assert files[0].read_bytes() == files[1].read_bytes()
    pdf = (tmp_path / "0.pdf").read_bytes()
    assert pdf.startswith(b"%PDF-")
    assert b"/Subtype /Image" not in pdf
    assert b"/Type3" not in pdf
    assert xml.etree.ElementTree.parse(tmp_path / "0.svg").getroot().tag.endswith("svg")


@pytest.mark.filterwarnings("error")
def test_names_are_drawn_letter_by_letter(tmp_path: Path) -> None:
    """Two dollars were a formula, which a name need not be; what no font has was an empty box, and a warning each."""
    names = [r"$\broken$ and \$5", "\uffff\U000e0fff", "x" * 60]
    panels = [Panel("$\\title$", {name: [(1, 1.0), (2, 2.0)] for name in names})]
    for ending in ("pdf", "svg"):
        save_panels(panels, tmp_path / f"curves.{ending}")
    figure = panels_figure(panels, lettering(names))
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert texts == [r"\$\broken\$ and \\$5", r"\uffff\U000e0fff", f"{'x' * 44}\n{'x' * 16}"]
