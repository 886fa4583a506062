"""The cells of a study, run by the command line: here, one after another, or in a pool of processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from barlowctl import shell
from barlowctl.amounts import counted
from barlowctl.cli.study_command import StudyCommand, slot_arguments
from barlowctl.cli.study_live import StudyDisplay, show_study
from barlowctl.cli.study_results import say_other_code, show_results
from barlowctl.errors import RunStopped, UserError
from barlowctl.output_paths import free

if TYPE_CHECKING:
    from barlowctl.assemble.labelled import Labelled
    from barlowctl.launchers.pool import Slot
    from barlowctl.study.directory import Cell, StudyDirectory

    Report = Callable[[Cell, str | None], None]
    """Called for every cell that starts ("started") and ends (None, what went wrong, or `pool.STOPPED`)."""


def run_cells(command: StudyCommand, numbers: Sequence[int], pool_arguments: list[str] | None = None) -> None:
    """Run the open ones among these cells, and show what is finished then.

    Args:
        pool_arguments: run them in processes of `barlowctl ablate` with these arguments; None: in this process.

    Raises:
        UserError: cells could not be run; the others were.
        RunStopped: a signal came, and the state is saved.
    """
    from barlowctl.study.backbones import check_backbones
    from barlowctl.study.cells import open_directory, open_images, write_results

    console, directory = command.console, command.directory
    check_backbones(directory.base, directory.cells)
    images = open_images(directory.base, command.data)
    open_directory(directory, images)
    cells = [(number, directory.cells[number]) for number in numbers]
    open_cells = [(number, cell) for number, cell in cells if cell.record is None]
    before = len(cells) - len(open_cells)
    console.say(f"{counted(len(cells), 'cell')}{f' ({before} finished before)' if before else ''}, in {directory.out}")
    say_other_code(command)
    advised: dict[str, str] = {}  # of the cells that could not be run: what to type next
    with show_study(console, directory, command.parallel) as display:

        def report(cell: Cell, what: str | None) -> None:
            display.report(cell, what)
            if what != "started":
                write_results(directory.with_finished(command.whole), figures=False)

        if pool_arguments is not None:
            wrong, advised = _run_in_pool(command, open_cells, pool_arguments, report)
        else:
            wrong, advised = _run_here(command, [cell for _, cell in open_cells], images.labelled, display, report)
    if not wrong or any(cell.record is not None for cell in directory.cells):
        show_results(command, quick=len(cells) == 1, last=not wrong)
    if wrong:
        first, reason = next(iter(wrong.items()))
        mend = "mend that and run the same command, or leave the variant out with --without"
        raise UserError(
            f"{counted(len(wrong), 'cell')} could not be run; {first}: {reason}",
            next="\n".join([*_of_the_study(directory, list(wrong), advised, first), mend]),
        )


def _of_the_study(
    directory: StudyDirectory, wrong: Sequence[str], advised: Mapping[str, str], first: str
) -> Iterator[str]:
    """What is advised for a cell as advice for the study: flags are those of all cells, and help where all fail alike.

    A study of other values is another one, with a directory of its own.
    """
    alike = len(wrong) == len(directory.cells) and len({advised.get(label) for label in wrong}) == 1
    for line in advised.get(first, "").splitlines():
        if not line.startswith(("--", "without --")):
            yield line
        elif alike:
            yield f"{line} {shell.line('--out', free(directory.out))}" if line.startswith("--set") else line


def _of_settings(cell: Cell) -> str:
    """The recipe that the settings of its method are from, ahead of what went wrong."""
    settings = cell.variant.settings
    return f"with the settings of {settings.recipe}: " if settings else ""


def _run_in_pool(
    command: StudyCommand, cells: list[tuple[int, Cell]], arguments: list[str], report: Report
) -> tuple[dict[str, str], dict[str, str]]:
    """Returns what went wrong and what to type next, both by the label of the cell."""
    from barlowctl.assemble.machine import pool_slots
    from barlowctl.launchers import pool

    threads = command.directory.base.train.cpu_threads
    slots = pool_slots(min(command.parallel, max(len(cells), 1)), command.runtime, threads)
    number_of = {cell.path: number for number, cell in cells}

    def arguments_of(cell: Cell, slot: Slot) -> list[str]:
        number = str(number_of[cell.path])
        return ["ablate", *arguments, "--cell", number, *slot_arguments(slot.device, slot.threads)]

    failures = pool.run_all([cell for _, cell in cells], slots, arguments_of, report)
    return (
        {label: failure.reason for label, failure in failures.items()},
        {label: failure.advice for label, failure in failures.items()},
    )


def _run_here(
    command: StudyCommand, cells: list[Cell], labelled: Labelled, display: StudyDisplay, report: Report
) -> tuple[dict[str, str], dict[str, str]]:
    """Returns what went wrong and what to type next, both by the label of the cell."""
    from barlowctl.launchers import pool
    from barlowctl.study.cells import run_cell

    wrong: dict[str, str] = {}
    advised: dict[str, str] = {}
    for cell in cells:
        if cell.record is not None:  # another process was quicker
            continue
        report(cell, "started")
        outcome = None
        try:
            run_cell(cell, labelled, command.runtime, command.data, display.sink)  # another process may have it
        except RunStopped as stopped:
            raise RunStopped(f"{cell.label}: {stopped.message}", next="barlowctl ...") from None
        except UserError as error:
            outcome = wrong[cell.label] = f"{_of_settings(cell)}{error.message}"
            advised[cell.label] = error.next or ""
            pool.hand_over(wrong[cell.label], error.next)
        report(cell, outcome)
    return wrong, advised
