"""The one place that writes to the terminal: human, JSON or quiet. It alone knows Rich.

Human output goes to standard output; with `--json` standard output carries exactly one JSON
document and everything human goes to standard error; with `--quiet` only the result is shown.
Colours and live displays appear on a terminal only.

Whatever is shown comes through as it is: no name is read as markup, control characters and what the terminal's
encoding lacks are escaped. On a terminal prose is folded between words (`folding`), and cells of tables anywhere, so
that commands never stand in one; what is to be copied, and all that goes into a pipe or a file, is never broken.
"""

from __future__ import annotations

import json as jsonlib
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Protocol

import typer

from barlowctl import launcher, starting, waits
from barlowctl.cli.bars import bar_columns
from barlowctl.cli.column_widths import ROOM, column_widths, listed_table, longest_word
from barlowctl.cli.folding import for_stream
from barlowctl.errors import Aborted, RunStopped, UserError
from barlowctl.program import as_started

if TYPE_CHECKING:
    from rich.console import Console as RichConsole

    from barlowctl.output_paths import Outputs


class Progress(Protocol):
    """A counter that is being shown."""

    def advance(self, n: int = 1) -> None: ...


class Console:
    """Where a command writes. `json` and `quiet` are the command's flags."""

    def __init__(self, *, json: bool = False, quiet: bool = False) -> None:
        self.json = json
        self.quiet = quiet
        self._rich: RichConsole | None = None
        waits.listen(self._say_wait)

    @property
    def stream(self) -> Any:
        """Where human output goes."""
        return sys.stderr if self.json else sys.stdout

    @property
    def rich(self) -> RichConsole:
        """The Rich console for human output, made on first use."""
        starting.erase()
        if self._rich is None:
            from rich.console import Console as RichConsole

            stream = self.stream
            width = None if stream.isatty() else 120

            class Stream(RichConsole):
                def on_broken_pipe(self) -> None:  # Rich would end the process here, with exit code 1 and no word
                    raise  # the BrokenPipeError that Rich is handling

            self._rich = Stream(
                file=stream, highlight=False, markup=False, emoji=False, width=width, soft_wrap=not stream.isatty()
            )
        return self._rich

    @property
    def live(self) -> bool:
        """Whether a moving display can be shown: not on a terminal without a cursor (TERM=dumb), which gets lines."""
        return self._terminal and not self.quiet and not self.rich.is_dumb_terminal

    def say(self, text: str, *, style: str | None = None, result: bool = False, whole: bool = False) -> None:
        """A line for people; `whole`: to be copied. Silent with --quiet, except where it belongs to the result."""
        if not self.quiet or (result and not self.json):
            text = self.plain(text)
            self.rich.print(text if whole else for_stream(text, self.stream), style=style, soft_wrap=True)

    def next(self, *commands: str) -> None:
        """What to type next: one command to a line (see `shell.line`)."""
        for command in commands:
            self.say(f"next: {as_started(command)}", whole=True)

    def paste(self, text: str) -> None:
        """Lines to be copied as they are, of Python or of a shell: nothing in front, nothing broken."""
        self.say(text, style="bold", whole=True)

    def document(self, text: str) -> None:
        """A file's content on standard output, to be read by a person or redirected: UTF-8 on any terminal."""
        starting.erase()
        sys.stdout.flush()
        if (octets := getattr(sys.stdout, "buffer", None)) is None:
            sys.stdout.write(text)
        else:
            octets.write(os.fsencode(text))
            octets.flush()

    def plain(self, text: str) -> str:
        """Text as this terminal can show it."""
        return showable(text, self.rich.file)

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """A table for people; shown with --quiet too, since it is the result, but not with --json."""
        if not (self.json and self.quiet):
            self.rich.print(self.drawn_table(title, columns, rows))

    def drawn_table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> Any:
        """A table as a Rich object, for displays that are redrawn; a list, row by row, where words have no room."""
        from rich import box
        from rich.cells import cell_len
        from rich.table import Table

        table = Table(title=self.plain(title) or None, box=box.SIMPLE_HEAD, title_justify="left", title_style="bold")
        cells = [[self._cell(value) for value in row] for row in rows]
        widths = [max(map(cell_len, column)) for column in zip(map(self._cell, columns), *cells, strict=True)]
        room = self.rich.width - sum(min(width, ROOM) + 3 for width in widths[1:])
        whole_names = widths[0] <= max(NAME_WIDTH, self.rich.width // 3, room)
        fixed: Sequence[int | None] = [None] * len(widths)
        if sum(widths) + 3 * len(widths) > self.rich.width:  # room for words rather than between columns
            table.padding = (0, 1, 0, 0)
            least = [longest_word(column, cell_len) for column in zip(map(self._cell, columns), *cells, strict=True)]
            least[0] = widths[0] if whole_names else least[0]
            fitting = column_widths(least, widths, self.rich.width - 2 * len(widths) - 1)
            if fitting is None and len(columns) > 2:
                return listed_table(self.plain(title), [self._cell(column) for column in columns], cells)
            fixed = fitting or fixed
        for number, column in enumerate(columns):
            numeric = number > 0 and all(isinstance(row[number], int | float) for row in rows)
            table.add_column(
                self._cell(column),
                justify="right" if numeric else "left",
                overflow="fold",
                no_wrap=number == 0 and whole_names,
                width=fixed[number],
            )
        for row in cells:
            table.add_row(*row)
        return table

    def _cell(self, value: Any) -> str:
        if value is None:
            return "-"
        if isinstance(value, float):
            return f"{value:.2g}" if 0.0 < abs(value) < 0.1 else f"{value:.2f}"
        return self.plain(str(value)).replace("\n", "\\n")

    def result(self, values: Mapping[str, Any]) -> None:
        """The command's result: the one JSON document with --json, else nothing."""
        if self.json:
            sys.stdout.write(jsonlib.dumps(values, indent=2, default=str) + "\n")
            sys.stdout.flush()

    def conclude(self, values: Mapping[str, Any], outputs: Outputs) -> None:
        """The result, and then what of its files could not be written, which does not take it away.

        Raises:
            typer.Exit: something could not be written.
        """
        self.result({**values, "not_written": outputs.problems} if outputs.problems else values)
        try:
            outputs.check()
        except UserError as error:
            show_error(error, json=False)  # standard output has its one document
            raise typer.Exit(error.exit_code) from error

    @contextmanager
    def progress(self, description: str, total: int | None) -> Iterator[Progress]:
        """A progress bar on a terminal, else one line at the start."""
        if not self.live:
            self.say(description)
            yield _NoProgress()
            return
        from rich.progress import Progress as RichProgress

        columns = bar_columns("{task.description}")
        with RichProgress(*columns, console=self.rich, transient=True) as bars:
            yield _RichProgress(bars, bars.add_task(self.plain(description), total=total))

    @contextmanager
    def waiting(self, text: str) -> Iterator[None]:
        """Say what takes a while and shows no count: on a terminal for as long as it takes, else one line."""
        if not self.live:
            self.say(text)
            yield
            return
        with self.rich.status(self.plain(text), spinner="line"):
            yield

    def _say_wait(self, text: str) -> None:
        """Say a wait that turned out to be long: beside what is being drawn on a terminal, else on standard error."""
        with suppress(OSError, ValueError):  # a thread of its own says it: the terminal may be closed by now
            if not self.quiet and launcher.says_errors():
                (self.say if self.live else say_aside)(text)

    def choose(self, question: str, choices: Sequence[str], *, default: str, missing: UserError) -> str:
        """Ask for one of `choices` on a terminal, `default` being what Enter takes; without one raise `missing`.

        Raises:
            UserError: nobody can be asked, or there is nothing to choose from.
        """
        if not choices or not self.can_ask:
            raise missing
        from rich.prompt import IntPrompt

        for number, choice in enumerate(choices, start=1):
            self.rich.print(self.plain(f"  {number:>{len(str(len(choices)))}}  {choice}"), soft_wrap=True)
        numbers = [str(number) for number in range(1, len(choices) + 1)]
        enter = choices.index(default) + 1
        answer = IntPrompt.ask(question, console=self.rich, choices=numbers, show_choices=False, default=enter)
        return choices[answer - 1]

    @property
    def can_ask(self) -> bool:
        """Whether somebody sits at a terminal."""
        return not self.json and sys.stdin.isatty() and self._terminal

    @property
    def _terminal(self) -> bool:
        """Whether a person at a terminal reads this: not a log in colour (FORCE_COLOR), nor a notebook's cell."""
        return self.rich.is_terminal and self.stream.isatty() and not starting.in_a_notebook()

    def confirm(self, question: str) -> bool:
        """Ask whether to go on, where `can_ask`. Nothing typed is no."""
        from rich.prompt import Confirm

        return Confirm.ask(self.plain(question), console=self.rich, default=False)


_LONG = re.compile(r"\S{1000,}")
"""A word of an error that hides the rest of it: a value that was given, no path and no list is as long."""


def show_error(error: UserError, *, json: bool) -> None:
    """One clear error: what was wrong, what is allowed, what to run next."""
    error.message, error.next = as_started(error.message), as_started(error.next or "") or None
    if json:
        document = {"error": error.message, "allowed": error.allowed, "next": error.next}
        sys.stdout.write(jsonlib.dumps({key: value for key, value in document.items() if value}, indent=2) + "\n")
    message = _LONG.sub(lambda word: f"{word[0][:100]}... ({len(word[0]):,} characters)", error.message)
    lines = [message if isinstance(error, RunStopped | Aborted) else f"error: {message}"]
    if error.allowed:
        lines.append(f"allowed: {error.allowed}")
    say_aside("\n".join(lines), *(f"next: {line}" for line in (error.next or "").splitlines()))


def say_aside(text: str, *whole: str) -> None:
    """A line on standard error, and `whole` ones to be copied. Nobody need read them: nothing comes of an error."""
    starting.erase()
    with suppress(OSError, ValueError):
        lines = for_stream(showable(text, sys.stderr), sys.stderr), *(showable(line, sys.stderr) for line in whole)
        sys.stderr.write("\n".join(lines) + "\n")
        sys.stderr.flush()


def showable(text: str, stream: Any) -> str:
    """Text that a stream can show: control characters, and what its encoding lacks, as escapes.

    Line breaks and tabs stay. A name of a file can hold anything, an instruction to the terminal too.
    """
    text = _CONTROL.sub(lambda match: match.group().encode("unicode_escape").decode("ascii"), text)
    encoding = getattr(stream, "encoding", None) or "utf-8"
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return text.translate(_ASCII_SIGNS).encode(encoding, "backslashreplace").decode(encoding)
    return text


NAME_WIDTH = 24  # characters: first columns of at most these stay whole on a narrow terminal, of a third on any
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]")
_ASCII_SIGNS = str.maketrans({"\u00b1": "+/-", "\u00d7": "x", "\u2026": "...", "\u2013": "-", "\u2192": "->"})


class _NoProgress:
    def advance(self, n: int = 1) -> None:
        """Nothing to show."""


class _RichProgress:
    def __init__(self, bars: Any, task: Any) -> None:
        self._bars, self._task = bars, task

    def advance(self, n: int = 1) -> None:
        self._bars.advance(self._task, n)
