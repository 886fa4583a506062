"""The one place that writes to the terminal: human, JSON or quiet. It alone knows Rich.

Human output goes to standard output; with `--json` standard output carries exactly one JSON
document and everything human goes to standard error; with `--quiet` only the result is shown.
Colours and live displays appear on a terminal only.
"""

from __future__ import annotations

import json as jsonlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from barlowctl.errors import RunStopped, UserError

if TYPE_CHECKING:
    from rich.console import Console as RichConsole


class Progress(Protocol):
    """A counter that is being shown."""

    def advance(self, n: int = 1) -> None: ...


class Console:
    """Where a command writes. `json` and `quiet` are the command's flags."""

    def __init__(self, *, json: bool = False, quiet: bool = False) -> None:
        self.json = json
        self.quiet = quiet
        self._rich: RichConsole | None = None

    @property
    def rich(self) -> RichConsole:
        """The Rich console for human output, made on first use."""
        if self._rich is None:
            from rich.console import Console as RichConsole

            stream = sys.stderr if self.json else sys.stdout
            width = None if stream.isatty() else 120
            self._rich = RichConsole(file=stream, highlight=False, width=width, soft_wrap=not stream.isatty())
        return self._rich

    @property
    def live(self) -> bool:
        """Whether a moving display can be shown."""
        return self.rich.is_terminal and not self.quiet

    def say(self, text: str, *, style: str | None = None) -> None:
        """A line for people. Silent with --quiet."""
        if not self.quiet:
            self.rich.print(text, style=style, markup=False)

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """A table for people; shown with --quiet too, since it is the result, but not with --json."""
        if not (self.json and self.quiet):
            self.rich.print(self.drawn_table(title, columns, rows))

    def drawn_table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> Any:
        """A table as a Rich object, for displays that are redrawn."""
        from rich import box
        from rich.table import Table

        table = Table(title=title or None, box=box.SIMPLE_HEAD, title_justify="left", title_style="bold")
        for number, column in enumerate(columns):
            numeric = number > 0 and all(isinstance(row[number], int | float) for row in rows)
            table.add_column(column, justify="right" if numeric else "left", overflow="fold")
        for row in rows:
            table.add_row(*(_cell(value) for value in row))
        return table

    def result(self, values: Mapping[str, Any]) -> None:
        """The command's result: the one JSON document with --json, else nothing."""
        if self.json:
            sys.stdout.write(jsonlib.dumps(values, indent=2, default=str) + "\n")
            sys.stdout.flush()

    @contextmanager
    def progress(self, description: str, total: int | None) -> Iterator[Progress]:
        """A progress bar on a terminal, else one line at the start."""
        if not self.live:
            self.say(description)
            yield _NoProgress()
            return
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with RichProgress(*columns, console=self.rich, transient=True) as bars:
            yield _RichProgress(bars, bars.add_task(description, total=total))

    def choose(self, question: str, choices: Sequence[str], *, missing: UserError) -> str:
        """Ask for one of `choices` on a terminal; without one raise `missing`.

        Raises:
            UserError: nobody can be asked, or there is nothing to choose from.
        """
        if self.json or not choices or not (sys.stdin.isatty() and self.rich.is_terminal):
            raise missing
        from rich.prompt import IntPrompt

        for number, choice in enumerate(choices, start=1):
            self.rich.print(f"  {number}  {choice}", markup=False)
        numbers = [str(number) for number in range(1, len(choices) + 1)]
        answer = IntPrompt.ask(question, console=self.rich, choices=numbers, show_choices=False, default=1)
        return choices[answer - 1]


def show_error(error: UserError, *, json: bool) -> None:
    """One clear error: what was wrong, what is allowed, what to run next."""
    if json:
        document = {"error": error.message, "allowed": error.allowed, "next": error.next}
        sys.stdout.write(jsonlib.dumps({key: value for key, value in document.items() if value}, indent=2) + "\n")
    lines = [error.message if isinstance(error, RunStopped) else f"error: {error.message}"]
    if error.allowed:
        lines.append(f"allowed: {error.allowed}")
    if error.next:
        lines.append(f"next: {error.next}")
    sys.stderr.write("\n".join(lines) + "\n")


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.2f}" if isinstance(value, float) else str(value)


class _NoProgress:
    def advance(self, n: int = 1) -> None:
        """Nothing to show."""


class _RichProgress:
    def __init__(self, bars: Any, task: Any) -> None:
        self._bars, self._task = bars, task

    def advance(self, n: int = 1) -> None:
        self._bars.advance(self._task, n)
