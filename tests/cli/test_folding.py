"""Lines for a terminal: folded between words, and what is copied from them stays whole."""

from __future__ import annotations

import pytest

from barlowctl.cli.console import show_error
from barlowctl.cli.folding import folded
from barlowctl.errors import UserError
from tests.cli.test_console import Terminal

COMMAND = "barlowctl data pack 'my photos/all of them.tar' photos.beton --member rgb.png"
PATH = "'/data/my photos/of last summer/all of them/packed.beton'"


@pytest.mark.parametrize("width", [40, 60, 80])
def test_words_and_what_is_copied_stay_whole(width: int) -> None:
    text = f"the authors' way of {PATH}, which isn't there; `{COMMAND}` says it, and to read it instead: {COMMAND}"
    lines = folded(text, width).split("\n")
    assert " ".join(lines) == text
    assert sum(COMMAND in line for line in lines) == 2
    assert any(PATH in line for line in lines)
    assert all(len(line) <= width or COMMAND in line or PATH in line for line in lines)
    assert len(lines) > 4


def test_what_fits_is_as_it_was() -> None:
    for text in ("", "a  b", "  data   photos", "a\n\n b", "x" * 60):
        assert folded(text, 60) == text
    assert folded("x" * 61, 60) == "x" * 61


def test_lines_go_on_below_the_text_of_a_named_one() -> None:
    line = "  device     cpu, 1 thread, bf16 as the recipe asks: faster than fp32"
    assert folded(line, 40).split("\n") == [
        "  device     cpu, 1 thread, bf16 as the",
        "             recipe asks: faster than",
        "             fp32",
    ]
    assert folded("  a much longer name     " + "word " * 5, 40).startswith(
        "  a much longer name     word word word\nword"
    )


@pytest.mark.parametrize("columns", [60, 80])
def test_an_error_on_a_terminal_is_folded_and_its_command_is_not(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setenv("COLUMNS", str(columns))
    show_error(UserError("there is a fault " * 20 + "here", allowed="another value, " * 20, next=COMMAND), json=False)
    *prose, command = terminal.text.splitlines()
    assert command == f"next: {COMMAND}"
    assert columns - 10 < max(map(len, prose)) <= columns
    assert " ".join(prose).split("allowed: ")[0] == "error: " + "there is a fault " * 20 + "here "


def test_an_error_in_a_pipe_is_not_folded(capsys: pytest.CaptureFixture[str]) -> None:
    show_error(UserError("there is a fault " * 20 + "here", next=COMMAND), json=False)
    assert len(capsys.readouterr().err.splitlines()) == 2


def test_wide_characters_take_two_columns_and_marks_none() -> None:
    """A line of Chinese words was folded by the terminal, in the middle of a word."""
    line = "\u8fd0\u884c " * 12 + "against clock: eval.every_epochs = 1"
    lines = folded(line, 60).split("\n")
    assert lines == ["\u8fd0\u884c " * 11 + "\u8fd0\u884c", "against clock: eval.every_epochs = 1"]
    accented = "e\u0301 " * 20 + "end"  # 43 columns, 63 characters
    assert folded(accented, 43) == accented
    assert folded("  \u6570\u636e    " + "word " * 8, 40).split("\n")[1].startswith(" " * 10 + "word")
