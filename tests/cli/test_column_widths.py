"""Tables on narrow terminals: a word is broken only where there is no room for all words."""

from __future__ import annotations

import io
from collections.abc import Sequence

import pytest

from barlowctl.cli.chart import chart
from barlowctl.cli.column_widths import column_widths, longest_word
from barlowctl.cli.console import Console

COLUMNS = ("name", "state", "step", "loss", "kNN", "best kNN", "last record")
ROWS = [(f"run-{n}", "finished", "20 of 20", "46.93", "46", "54", "1 min 12 s ago") for n in range(2)]


def test_room_that_is_left_makes_as_many_columns_whole_as_it_can() -> None:
    assert column_widths([3, 4, 5], [3, 10, 6], 15) == [3, 6, 6]
    assert column_widths([3, 4, 5], [3, 10, 6], 30) == [3, 10, 6]
    assert column_widths([3, 4, 5], [3, 10, 6], 12) == [3, 4, 5]
    assert column_widths([3, 4, 5], [3, 10, 6], 11) is None
    assert longest_word(["of 20 runs", "", "x" * 99]) == 16


@pytest.mark.parametrize("width", [60, 64, 72, 80])
def test_words_of_a_table_stay_whole_on_a_narrow_terminal(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    console = Console()
    console.rich.file = io.StringIO()
    console.rich.width = width
    console.table("", COLUMNS, ROWS)
    lines = console.rich.file.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    words = [word for line in lines for word in line.split()]
    for word in ("finished", "46.93", "run-0", "record", "best"):
        assert word in words


def test_columns_without_room_beside_one_another_are_listed_row_by_row() -> None:
    """As `runs table --settings` has them, at 60 columns: no word is broken, and each value is beside its name."""
    keys = ["objective.lambd", "model.projector", "train.batch_size", "optimizer.name", "views.first.blur"]
    console = Console()
    console.rich.file = io.StringIO()
    console.rich.width = 60
    console.table(
        "", ("runs", *keys, "seeds"), [("a", "0.0051", "[64, 64]", "128", "lars", "1.0", "3"), ("b", *"123456")]
    )
    lines = [line.split(maxsplit=1) for line in console.rich.file.getvalue().splitlines() if line.strip()]
    first = ["0.0051", "[64, 64]", "128", "lars", "1.0", "3"]
    values = [[word.strip() for word in line] for line in lines if line[0] in ("a", "b", *keys)]
    assert values == [["a"], *zipped(keys, first), ["b"], *zipped(keys, "123456")]


def zipped(keys: Sequence[str], values: Sequence[str]) -> list[list[str]]:
    return [[key, value] for key, value in zip(keys, values, strict=False)]


def test_a_name_of_wide_letters_is_not_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    console = Console()
    console.rich.file = io.StringIO()
    console.rich.width = 60
    console.table("", COLUMNS, [("実験の結果", *ROWS[0][1:])])
    assert "実験の結果" in console.rich.file.getvalue()


@pytest.mark.parametrize("columns", [40, 60, 80, 200])
def test_a_plot_is_no_wider_than_the_terminal(columns: int) -> None:
    lines = chart("loss", {"a": [(step, 100.0 / step) for step in range(1, 50)]}, columns=columns)
    widest = max(map(len, lines))
    assert widest <= columns
    assert widest >= min(columns, 78) - 1
    assert lines[-1].endswith(" 49")
