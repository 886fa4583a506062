"""Blocks of a report's page in HTML: a figure with its caption, a table."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from typing import Any

NUMBER = re.compile(r"[-+−]?\d[\d,]*(\.\d+)?(e[-+]?\d+)?( ± [\d.]+)?( %)?")


def figure(heading: str, caption: str, content: str) -> str:
    """A figure's element; `content` is HTML, the rest text."""
    figcaption = f"<figcaption><b>{html.escape(heading)}</b> {html.escape(caption)}</figcaption>"
    return f"<figure>{figcaption}{content}</figure>"


def table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A table's element, numbers to the right; a missing value is a dash, columns without names have no header."""
    head = "".join(f"<th>{html.escape(column)}</th>" for column in columns) if any(columns) else ""
    lines = []
    for row in rows:
        cells = []
        for value in row:
            text = "–" if value is None else f"{value:,.4g}" if isinstance(value, float) else str(value)
            numeric = isinstance(value, int | float) or NUMBER.fullmatch(text)
            cells.append(f'<td class="n">{html.escape(text)}</td>' if numeric else f"<td>{html.escape(text)}</td>")
        lines.append(f"<tr>{''.join(cells)}</tr>")
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{"".join(lines)}</tbody></table></div>'
