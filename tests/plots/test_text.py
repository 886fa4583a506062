"""Text in pictures: names of classes and files are drawn, whatever letters they have."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFont

from barlowctl.plots import matrix, text
from barlowctl.plots.images import grid


@pytest.fixture
def no_fonts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without a font."""
    monkeypatch.setattr(text, "OTHERS", ())


def dejavu(monkeypatch: pytest.MonkeyPatch) -> str:
    """A machine with one font, which has letters of Europe; its name."""
    matplotlib = pytest.importorskip("matplotlib")
    file = str(Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans.ttf")
    monkeypatch.setattr(text, "OTHERS", ("there-is-none.ttf", file))
    return ImageFont.truetype(file).getname()[0]


@pytest.mark.parametrize(
    ("name", "drawn"),
    [
        ("cat", "cat"),
        ("M\u00fcnchen", "Munchen"),
        ("Mu\u0308nchen", "Munchen"),
        ("\u65e5\u672c", "\\u65e5\\u672c"),
        ("two\u2026", "two\u2026"),
    ],
)
def test_without_a_font_letters_lose_their_marks_and_others_are_escaped(name: str, drawn: str, no_fonts: None) -> None:
    """Two names of other scripts stay two."""
    assert text.drawable(name, text.font(12, [name])) == drawn


def test_a_font_of_the_machine_draws_what_pillows_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing is lacking, pictures are as they were."""
    other = dejavu(monkeypatch)
    own = text.font(12, ["cat", "dog"])
    assert own.getname()[0] != other
    letters = text.font(12, ["cat", "M\u00fcnchen"])
    assert (letters.getname()[0], letters.size) == (other, 12)
    assert text.drawable("Mu\u0308nchen", letters) == "M\u00fcnchen"
    assert text.drawable("\u65e5", letters) == "\\u65e5"


@pytest.mark.usefixtures("no_fonts")
def test_pictures_tell_names_of_other_scripts_apart() -> None:
    """An empty box for each letter made all of them one."""
    square = Image.new("RGB", (8, 8))
    assert grid([[square]], [["\u65e5"]]).tobytes() != grid([[square]], [["\u672c"]]).tobytes()
    counts = np.eye(2)
    assert (
        matrix.confusion(counts, ["\u65e5", "cat"], "C").tobytes()
        != matrix.confusion(counts, ["\u672c", "cat"], "C").tobytes()
    )
