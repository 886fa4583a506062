"""Text in pictures: names of classes and files are drawn, whatever letters they have."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFont

from barlowctl.plots import lettering, machine_fonts, matrix, text
from barlowctl.plots.images import grid


@pytest.fixture
def no_fonts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without a font."""
    monkeypatch.setattr(machine_fonts, "NAMES", ())
    monkeypatch.setattr("shutil.which", lambda name: None)
    machine_fonts.file_with.cache_clear()


def dejavu(monkeypatch: pytest.MonkeyPatch) -> str:
    """A machine with one font, which has letters of Europe; its name."""
    matplotlib = pytest.importorskip("matplotlib")
    file = str(Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans.ttf")
    monkeypatch.setattr(machine_fonts, "NAMES", ("there-is-none.ttf", file))
    monkeypatch.setattr("shutil.which", lambda name: None)
    machine_fonts.file_with.cache_clear()
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


def test_a_text_of_another_script_has_a_font_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a picture of texts of which no font has all; the others stay in the common one."""
    name = dejavu(monkeypatch)
    common = text.font(12)
    assert text.suited("cat", common) is common
    assert text.suited("\u0642\u0637\u0629", common).getname()[0] == name
    assert text.suited("\u0642\u0637\u0629", common).size == 12


def test_fontconfig_is_asked_for_a_font_that_has_the_letters(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where none of the known names has them; upright fonts without serifs first, and what cannot be read is left."""
    matplotlib = pytest.importorskip("matplotlib")
    folder = Path(matplotlib.get_data_path()) / "fonts/ttf"
    sans, serif = folder / "DejaVuSans.ttf", folder / "DejaVuSerif.ttf"
    program, listed = tmp_path / "fc-list", f"{folder}/DejaVuSans-Bold.ttf\tBold\n{serif}\tBook\n{sans}\tBook\n"
    program.write_text(f"#!/bin/sh\necho \"$@\" >> {tmp_path}/typed\nprintf '%s' '{listed}'\n")
    program.chmod(0o755)
    monkeypatch.setattr(machine_fonts, "NAMES", ())
    monkeypatch.setattr("shutil.which", lambda name: str(program))
    machine_fonts.file_with.cache_clear()
    assert text.font(12, ["\u0642 cat"]).path == str(sans)
    assert "charset=2e 30 41 61 642:" in (tmp_path / "typed").read_text()
    assert lettering.lettering(["\u0642"]).written("\u0642") == "\u0642"
    program.write_text("#!/bin/sh\necho no such font\nexit 1\n")
    machine_fonts.file_with.cache_clear()
    assert text.drawable("\u65e5", text.font(12, ["\u65e5"])) == r"\u65e5"
    monkeypatch.setattr("shutil.which", lambda name: str(tmp_path / "gone"))
    machine_fonts.file_with.cache_clear()
    assert machine_fonts.with_letters("\u65e5") == []


def test_a_figure_has_fonts_only_for_what_its_own_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    dejavu(monkeypatch)
    assert lettering.lettering(["cat", "\u0642"]).families == ["DejaVu Sans"]
    assert lettering.lettering(["\u65e5"]).written("\u65e5 $1") == r"\u65e5 \$1"


def test_a_long_name_keeps_both_ends() -> None:
    letters = text.font(12)
    short = text.shortened("a" * 50 + "z" * 50, letters, 100)
    assert (short[0], short[-1], short.count("\u2026")) == ("a", "z", 1)
    assert letters.getlength(short) <= 100
    assert text.shortened("cat", letters, 100) == "cat"
    assert text.shortened("cat", letters, 1) == "\u2026"
