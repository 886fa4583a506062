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

    A column that has numbers alone stands to the right, with its name. Words are whole; a line may end within a word
    of more than `LONG` characters.
    """
    numeric = [all(value is None or _is_number(value) for value in column) for column in zip(*rows, strict=True)]
    numeric = numeric or [False] * len(columns)
    head = "".join(_cell("th", *cell) for cell in zip(columns, numeric, strict=True)) if any(columns) else ""
    body = ""
    for row in rows:
        cells = (_cell("td", _text(value), number) for value, number in zip(row, numeric, strict=True))
        body += f"<tr>{''.join(cells)}</tr>"
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) or NUMBER.fullmatch(str(value)) is not None


def _text(value: object) -> str:
    return "–" if value is None else f"{value:,.4g}" if isinstance(value, float) else str(value)


def _cell(tag: str, text: str, number: bool) -> str:
    kind = ' class="n"' if number else ' class="long"' if max(map(len, text.split()), default=0) > LONG else ""
    return f"<{tag}{kind}>{html.escape(text)}</{tag}>"
