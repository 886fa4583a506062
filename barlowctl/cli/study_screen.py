"""A study's tables on a screen of one size: the columns that have room, and the rows around what is running."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

LEFT_OUT = ("verdict", "paper diff.", "paper", "effective rank", "difference", "kNN")
"""Columns that a narrow screen has no room for, the first of them left out first."""
FRAME = 5
"""Lines of a table beside its rows: title, header and its rule, a blank line above and below."""
LEAST_NAME = 24


@dataclass(frozen=True)
class Listed:
    """A study's table. running: numbers of the rows that somebody trains. state: how much of it is done, in words."""

    title: str
    header: list[str]
    rows: list[list[str]]
    running: frozenset[int] = frozenset()
    state: str = ""

    @property
    def height(self) -> int:
        """Lines on the screen."""
        return len(self.rows) + FRAME


def narrowed(table: Listed, width: int) -> Listed:
    """The table without the columns that have no room; long names keep both ends."""
    longest = max(LEAST_NAME, width // 3)
    header, rows = list(table.header), [[_shortened(row[0], longest), *row[1:]] for row in table.rows]
    for name in LEFT_OUT:
        if _width(header, rows) <= width:
            break
        if name in header:
            column = header.index(name)
            del header[column]
            for row in rows:
                del row[column]
    return replace(table, header=header, rows=rows)


def lowered(tables: Sequence[Listed], lines: int) -> list[Listed | str]:
    """What of the tables fits so many lines: all; else those of which something runs, the others as a line each.

    Tables that are still too long have some of their rows, around those that run, and say which.
    """
    if sum(table.height for table in tables) <= lines:
        return list(tables)
    current = [table for table in tables if table.running] or list(tables[:1])
    left = lines - (len(tables) - len(current))
    if sum(table.height for table in current) > left:
        most = max(left // len(current) - FRAME, 1)
        parts = {table.title: _part(table, most) for table in current}
    else:
        parts = {table.title: table for table in current}
    return [parts.get(table.title, f"{table.title}: {table.state}") for table in tables]


def _part(table: Listed, most: int) -> Listed:
    if len(table.rows) <= most:
        return table
    running = min(table.running, default=0)
    first = max(0, min(running - most // 2, len(table.rows) - most))
    title = f"{table.title}, rows {first + 1} to {first + most} of {len(table.rows)}"
    return replace(table, title=title, rows=table.rows[first : first + most])


def _width(header: Sequence[str], rows: Sequence[Sequence[str]]) -> int:
    """Columns of the terminal that a table takes: a blank on either side of each cell, and one between them."""
    columns = zip(header, *rows, strict=True)
    return sum(max(map(len, cells)) for cells in columns) + 3 * len(header)


def _shortened(text: str, width: int) -> str:
    end = width // 3
    return text if len(text) <= width else f"{text[: width - end - 1]}…{text[-end:]}"
