"""A table as text that is pasted elsewhere: Markdown, LaTeX (booktabs), CSV. A leaf: standard library only.

The first column names the rows and is set flush left; all others hold numbers and are set flush right.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence

Header = Sequence[str]
Rows = Sequence[Sequence[str]]

MISSING = "-"
"""What a cell without a value holds."""

_SIGNS = {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", "×": r"$\times$",
    "−": "$-$", "–": "--", "—": "---", "→": r"$\to$", "<": "$<$", ">": "$>$", "|": "$|$", "…": r"\dots{}",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
}  # fmt: skip
_ANY_SIGN = re.compile("|".join(map(re.escape, _SIGNS)))
_SIGNED = re.compile(r"[+-]\d[\d.,]*")


def markdown(header: Header, rows: Rows) -> str:
    """A table in GitHub's Markdown, without a line break at its end."""
    lines = ["| " + " | ".join(map(_in_markdown, header)) + " |", "|---|" + "---:|" * (len(header) - 1)]
    lines += ["| " + " | ".join(map(_in_markdown, row)) + " |" for row in rows]
    return "\n".join(lines)


def markdown_notes(lines: Iterable[str]) -> str:
    """What stands below such a table: an entry a line, for lines that follow one another are one paragraph there."""
    return "".join(f"- {' '.join(line.split())}\n" for line in lines)


def latex(header: Header, rows: Rows) -> str:
    """A `tabular` with the lines of the package booktabs, without a line break at its end.

    Nothing in a cell is read as a command of LaTeX; signed numbers get the minus of mathematics.
    """
    lines = [
        f"\\begin{{tabular}}{{l{'r' * (len(header) - 1)}}}",
        "\\toprule",
        _latex_row(header),
        "\\midrule",
        *map(_latex_row, rows),
        "\\bottomrule",
        "\\end{tabular}",
    ]
    return "\n".join(lines)


def latex_comments(lines: Sequence[str]) -> str:
    """Lines that a LaTeX file holds for whoever reads it, and does not print."""
    return "".join(f"% {part}\n" for line in lines for part in line.splitlines())


def as_csv(columns: Sequence[str], rows: Sequence[Mapping[str, object]]) -> str:
    """Rows by the names of their columns; what a row lacks, or has as None, is empty."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()


def latex_text(text: str) -> str:
    """Text as LaTeX prints it: its own signs escaped, numbers with a sign in mathematics."""
    if text == MISSING:
        return "--"
    if _SIGNED.fullmatch(text):
        return f"${text}$"
    first, space, rest = text.partition(" ")
    if space and _SIGNED.fullmatch(first):
        return f"${first}$ {_ANY_SIGN.sub(lambda sign: _SIGNS[sign[0]], rest)}"
    return _ANY_SIGN.sub(lambda sign: _SIGNS[sign[0]], text)


def _latex_row(cells: Sequence[str]) -> str:
    first, *others = map(latex_text, cells)
    if first.startswith(("[", "*")):  # which the line's end before it would take for its own
        first = f"{{{first[0]}}}{first[1:]}"
    return " & ".join([first, *others]) + r" \\"


def _in_markdown(cell: str) -> str:
    return cell.replace("|", r"\|")
