"""What is finished of a study: its tables on the terminal, its tables and figures as files."""

from __future__ import annotations

import errno
from pathlib import Path

from barlowctl import shell
from barlowctl.amounts import counted
from barlowctl.cli.study_chosen import other_studies
from barlowctl.cli.study_command import StudyCommand
from barlowctl.errors import UserError

NOT_OURS = (errno.EACCES, errno.EPERM, errno.EROFS)
"""What the system says where a folder is another's, or its disk can only be read."""


def say_other_code(command: StudyCommand) -> None:
    """Name the finished cells that another version of somebody's method or network trained than is registered now."""
    from barlowctl.study.other_code import cells_of_other_code

    if cells := cells_of_other_code(command.directory):
        labels, one = "; ".join(cell.label for cell in cells), len(cells) == 1
        command.console.say(
            f"note: {counted(len(cells), 'cell')} ({labels}) {'was' if one else 'were'} trained by another version of "
            "your own method or network than is registered now: the tables compare different code. To train "
            f"{'it' if one else 'them'} anew, remove {'it' if one else 'them'} and run the study again:"
        )
        command.console.paste(shell.line("rm", "-r", *(cell.path for cell in cells)))


def show_results(command: StudyCommand, *, quick: bool = False, last: bool = True, elsewhere: bool = False) -> None:
    """Tables and figures of what is finished.

    Args:
        quick: until all is finished, no figures, and no tables shown. last: this is the command's result.
        elsewhere: the study may be another's, where nothing can be written: then the tables are shown alone.

    Raises:
        UserError: nothing is finished.
    """
    from barlowctl.study import table
    from barlowctl.study.cells import finished_of_all_layers, write_results
    from barlowctl.study.directory import not_writable

    console, cells = command.console, command.directory.cells
    directory = command.directory.with_finished(command.whole)
    finished = sum(cell.record is not None for cell in cells)
    quick = quick and finished < len(cells)
    anything = any(row["finished"] for study in directory.studies for row in table.rows(directory, study))
    if not anything and not quick:
        raise UserError(
            f"nothing of this is finished in '{directory.out}' (another process may be at it)",
            next="\n".join([*other_studies(directory), "without --show"]),
        )
    files: list[Path] = []
    try:
        files, why = write_results(directory, figures=not quick)
    except OSError as error:
        if not elsewhere or error.errno not in NOT_OURS:
            raise
        why = f"note: no files were written: {not_writable(directory.out, error).message}"
    documents = []
    for study in directory.studies:
        rows = table.rows(directory, study)
        documents.append(table.document(directory, study, rows))
        if not quick:
            title = f"{study.title} ({study.source}) on recipe {directory.base.name}, {table.seeds_text(rows)}"
            for number, (header, lines) in enumerate(table.tables(rows)):
                console.table("" if number else title, header, lines)
            for line in table.notes(study, rows):
                console.say(line)
    for text in (why, finished_of_all_layers(directory)):
        if text:
            console.say(text)
    written = f"; written into {directory.out}:" if files else ""
    console.say(f"{finished} of {counted(len(cells), 'cell')} {'is' if len(cells) == 1 else 'are'} finished{written}")
    if files:
        console.say("  " + ", ".join(file.name for file in files))
    summary = {
        "recipe_name": directory.base.name,
        "seeds": list(directory.seeds),
        "out": str(directory.out),
        "cells": len(cells),
        "finished": finished,
        "studies": documents,
        "files": [str(file) for file in files],
    }
    if last:
        console.result(summary)
