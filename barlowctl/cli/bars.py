"""Bars of progress on a terminal: what stands in each, and in which colours."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import ProgressColumn


def bar_columns(description: str) -> tuple[ProgressColumn, ...]:
    """A bar with its count and the time that is left. Its rest is grey: Rich's is almost black on a light ground."""
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn

    return (
        TextColumn(description, markup=False),
        BarColumn(40, style="bright_black"),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("left"),
    )
