"""Tables as text: what is pasted into a paper or a page says what the cells say."""

from __future__ import annotations

import csv
import io

from barlowctl import tables

HEADER = ["variant", "seeds", "linear top-1", "difference"]
ROWS = [["a_b & 50 %", "3/3", "85.51 ± 0.30", "-"], ["x|y {2} #1 $ ~ ^ \\", "2/3, 1 failed", "85.0", "-0.52 (± 0.30)"]]


def test_latex_is_a_tabular_of_booktabs_whose_cells_print_as_they_are() -> None:
    assert tables.latex(HEADER, ROWS).splitlines() == [
        r"\begin{tabular}{lrrr}",
        r"\toprule",
        r"variant & seeds & linear top-1 & difference \\",
        r"\midrule",
        r"a\_b \& 50 \% & 3/3 & 85.51 $\pm$ 0.30 & -- \\",
        r"x$|$y \{2\} \#1 \$ \textasciitilde{} \textasciicircum{} \textbackslash{} & 2/3, 1 failed & 85.0 & "
        r"$-0.52$ ($\pm$ 0.30) \\",
        r"\bottomrule",
        r"\end{tabular}",
    ]


def test_a_row_that_begins_as_an_option_of_the_line_before_does_not_become_one() -> None:
    text = tables.latex(["views", "kNN"], [["[0.1, 1]", "85"], ["*", "84"]])
    assert text.splitlines()[4:6] == [r"{[}0.1, 1] & 85 \\", r"{*} & 84 \\"]


def test_a_number_with_a_sign_is_mathematics_and_a_word_with_a_dash_is_not() -> None:
    assert [tables.latex_text(text) for text in ("+1.5", "-3", "fashion-mnist", "1e-3", "-a")] == [
        "$+1.5$",
        "$-3$",
        "fashion-mnist",
        "1e-3",
        "-a",
    ]


def test_every_line_of_a_comment_is_one() -> None:
    assert tables.latex_comments(["of 3 seeds", "failed: the loss\nis nan"]) == (
        "% of 3 seeds\n% failed: the loss\n% is nan\n"
    )


def test_markdown_keeps_its_columns_whatever_a_cell_holds() -> None:
    lines = tables.markdown(HEADER, ROWS).splitlines()
    assert lines[:3] == [
        "| variant | seeds | linear top-1 | difference |",
        "|---|---:|---:|---:|",
        "| a_b & 50 % | 3/3 | 85.51 ± 0.30 | - |",
    ]
    assert lines[3].startswith(r"| x\|y {2} ")


def test_csv_comes_back_by_the_names_of_its_columns() -> None:
    text = tables.as_csv(["a", "b"], [{"a": "x,\ny", "b": 1.25}, {"a": None}])
    assert list(csv.DictReader(io.StringIO(text))) == [{"a": "x,\ny", "b": "1.25"}, {"a": "", "b": ""}]


def test_each_note_below_a_table_is_an_entry_of_a_list() -> None:
    """Lines alone are one paragraph, in which notes ran into one another."""
    assert tables.markdown_notes(["a is b.", "c\n  d."]) == "- a is b.\n- c d.\n"
    assert tables.markdown_notes([]) == ""
