"""A study as it is shown while it runs: its tables redrawn on a terminal, a line per cell elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from barlowctl.amounts import counted
from barlowctl.cli.console import Console
from barlowctl.cli.live import duration
from barlowctl.cli.study_screen import Listed, lowered, narrowed
from barlowctl.train.events import Event, Notice, Sink

if TYPE_CHECKING:
    from barlowctl.study.directory import Cell, StudyDirectory

SECONDS_BETWEEN_READS = 2.0
ELSEWHERE = "another process has it"
"""What is said of a cell that this process was to run and left alone."""


class StudyDisplay:
    """Shows cells as they start and end; what the tables show is read from the study's directory."""

    def __init__(self, console: Console, directory: StudyDirectory, at_once: int) -> None:
        self.console, self.directory, self.at_once = console, directory, at_once
        self.open = [cell for cell in directory.cells if cell.record is None]
        self.ended = set[Path]()
        self.stopping = False
        self.started = time.monotonic()
        self.counted = 0, self.started  # cells that were finished since the start, and when that was first seen

    def report(self, cell: Cell, what: str | None) -> None:
        """A cell has started ("started") or ended (None, what went wrong, or `pool.STOPPED`: so will all that run)."""
        from barlowctl.launchers import pool

        number = self.directory.cells.index(cell) + 1
        head = f"[{number}/{len(self.directory.cells)}] {cell.label}"
        if what == "started":
            self.console.say(f"{head}: {cell.variant.changes or 'the recipe as it is'}")
            return
        self.ended.add(cell.path)
        self.stopping |= what == pool.STOPPED
        record = cell.record
        if record is not None:
            what = _measured(record)
        left = self.left()
        more = f"; {duration(left)} left at this rate" if left else ""
        self.console.say(f"{head}: {what or ELSEWHERE}{more}")

    def left(self) -> float:
        """Seconds until all cells are finished, by those that were finished since the start; 0: nobody knows.

        What could not be run, and what another process has, is nothing that this one waits for.
        """
        finished = [cell.path for cell in self.open if cell.record is not None]
        still = len(self.open) - len(self.ended.union(finished))
        if self.stopping or not finished:
            return 0.0
        if len(finished) != self.counted[0]:
            self.counted = len(finished), time.monotonic()
        of_a_cell = (self.counted[1] - self.started) / len(finished)
        begun = time.monotonic() - self.counted[1]  # of the cells that run; what they take longer is not known
        return max(of_a_cell * still - begun, of_a_cell * (still - self.at_once), 0.0)

    @contextmanager
    def sink(self, cell: Cell) -> Iterator[Sink]:
        """Events of a cell that trains in this process: only what has to be known is said."""

        def show(event: Event) -> None:
            if isinstance(event, Notice):
                self.console.say(f"{cell.label}: note: {event.text}")

        yield show


def _measured(record: Any) -> str:
    if "failed" in record:
        return f"failed: {record['failed']}"
    values = record["measures"]
    knn, linear = ("not reported" if values[key] is None else f"{values[key]:.2f}" for key in ("knn", "linear_top1"))
    of_c = [
        f"{name} {values[key]:.2f}"
        for name, key in (("C_ii", "mean_diagonal"), ("C_ij", "rms_off_diagonal"))
        if key in values
    ]
    return ", ".join([f"kNN {knn}", f"linear {linear}", f"effective rank {values['effective_rank']:.1f}", *of_c])


class _Tables:
    """What Rich redraws: the tables, and a line for every cell that is running."""

    def __init__(self, display: StudyDisplay) -> None:
        self.display = display
        self.read = float("-inf")
        self.drawn: Any = ""

    def __call__(self) -> Any:
        if time.monotonic() - self.read > SECONDS_BETWEEN_READS:
            self.drawn, self.read = self._draw(), time.monotonic()
        return self.drawn

    def _draw(self) -> Any:
        from rich.console import Group
        from rich.text import Text

        console = self.display.console
        progress = self._progress()
        lines = console.rich.size.height - len(progress) - 1
        parts: list[Any] = []
        for table in lowered([narrowed(table, console.rich.width) for table in self._tables()], lines):
            parts.append(
                Text(console.plain(table), no_wrap=True, overflow="ellipsis")
                if isinstance(table, str)
                else console.drawn_table(table.title, table.header, table.rows)
            )
        return Group(*parts, *(Text(console.plain(line), no_wrap=True, overflow="ellipsis") for line in progress))

    def _progress(self) -> list[str]:
        """How many cells are finished, and where those are that run."""
        from barlowctl.runs import rundir
        from barlowctl.study.cells import read_progress

        cells = self.display.directory.cells
        left = self.display.left()
        finished = sum(cell.record is not None for cell in cells)
        lines = [f"{finished} of {counted(len(cells), 'cell')}" + (f", {duration(left)} left" if left else "")]
        for cell in self._running():
            steps = read_progress(cell)
            where = f"step {steps[0]:,} of {steps[1]:,}" if steps else "starting"
            lines.append(f"  {cell.label}: {'measuring' if rundir.is_finished(cell.path) else where}")
        return lines

    def _running(self) -> list[Cell]:
        return [cell for cell in self.display.directory.cells if cell.record is None and cell.claimed]

    def _tables(self) -> list[Listed]:
        from barlowctl.study import table

        directory, running = self.display.directory, {cell.path for cell in self._running()}
        listed = []
        for study in directory.studies:
            header, rows = table.formatted(table.rows(directory, study), (*table.ACCURACY, "effective_rank"))
            of_rows = [
                [directory.cell(study, variant, seed) for seed in directory.seeds_of(study, variant)]
                for variant in study.variants
            ]
            number = sum(map(len, of_rows))
            done = sum(cell.record is not None for cells in of_rows for cell in cells)
            at = frozenset(row for row, cells in enumerate(of_rows) if running & {cell.path for cell in cells})
            state = f"{done} of {counted(number, 'cell')}"
            listed.append(Listed(f"{study.title} ({study.source})", header, rows, at, state))
        return listed


@contextmanager
def show_study(console: Console, directory: StudyDirectory, at_once: int) -> Iterator[StudyDisplay]:
    """The display of a study, for as long as the context lasts."""
    display = StudyDisplay(console, directory, at_once)
    if not console.live:
        yield display
        return
    from rich.live import Live

    with Live(console=console.rich, refresh_per_second=1, get_renderable=_Tables(display), transient=True):
        yield display
