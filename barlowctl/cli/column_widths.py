"""How wide the columns of a table are on a terminal that has not room for all of it: words stay whole first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

ROOM = 16
"""Characters that leave a column readable: the first column stays whole where all others have them."""


def longest_word(cells: Sequence[str], measure: Callable[[str], int] = len) -> int:
    """Columns in which no word of these cells is broken that is not very long. measure: how wide a word is shown."""
    return max(min(measure(word), ROOM) for cell in cells for word in (cell.split() or [""]))


def column_widths(least: Sequence[int], whole: Sequence[int], room: int) -> list[int] | None:
    """The widths of a table's columns: each has its words, and what room is left makes as many whole as it can.

    None: there is not even room for the words.
    """
    widths, left = list(least), room - sum(least)
    if left < 0:
        return None
    for column in sorted(range(len(widths)), key=lambda number: whole[number] - least[number]):
        more = min(left, whole[column] - widths[column])
        widths[column] += more
        left -= more
    return widths


def listed_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Any:
    """A Rich table whose columns have no room beside one another: under each row's first cell, what the others hold."""
    from rich import box
    from rich.table import Table

    listed = Table(title=title or None, box=box.SIMPLE_HEAD, title_justify="left", title_style="bold")
    listed.add_column(columns[0], overflow="fold")
    listed.add_column("", overflow="fold")
    for first, *others in rows:
        listed.add_row(first, "")
        for name, cell in zip(columns[1:], others, strict=True):
            listed.add_row(f"  {name}", cell)
    return listed
