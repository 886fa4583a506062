"""Blocks of a report's page in HTML: a figure with its caption, a table."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from typing import Any

NUMBER = re.compile(r"[-+−]?\d[\d,]*(\.\d+)?(e[-+]?\d+)?( ± [\d.]+)?( %)?")

LONG = 24
"""Characters of a word that is broken where a table is narrow, such as a path."""


def figure(heading: str, caption: str, content: str, *, wide: bool = False) -> str:
    """A figure's element; `content` is HTML, the rest text. wide: it has a row of the page for itself."""
    figcaption = f"<figcaption><b>{html.escape(heading)}</b> {html.escape(caption)}</figcaption>"
    start = '<figure class="wide">' if wide else "<figure>"
    return f"{start}{figcaption}{content}</figure>"


def table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A table's element; a missing value is a dash, columns without names have no header.

    Numbers stand to the right, and so does the name of a column that has numbers alone. Words are whole, but a line may
    end within one of more than `LONG` characters.
    """
    lines = [[_text(value) for value in row] for row in rows]
    numbers = [
        [isinstance(value, int | float) or bool(NUMBER.fullmatch(_text(value))) for value in row] for row in rows
    ]
    body = []
    for texts, are_numbers in zip(lines, numbers, strict=True):
        cells = (_cell("td", text, of_number) for text, of_number in zip(texts, are_numbers, strict=True))
        body.append(f"<tr>{''.join(cells)}</tr>")
    head = ""
    if any(columns):
        for at, column in enumerate(columns):
            values = [row[at] for row, missing in zip(numbers, rows, strict=True) if missing[at] is not None]
            head += _cell("th", column, bool(values) and all(values))
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{"".join(body)}</tbody></table></div>'


def _text(value: object) -> str:
    return "–" if value is None else f"{value:,.4g}" if isinstance(value, float) else str(value)


def _cell(tag: str, text: str, number: bool) -> str:
    kind = ' class="n"' if number else ' class="long"' if max(map(len, text.split()), default=0) > LONG else ""
    return f"<{tag}{kind}>{html.escape(text)}</{tag}>"
