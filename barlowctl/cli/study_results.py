"""What is finished of a study: its tables on the terminal, its tables and figures as files."""

from __future__ import annotations

from barlowctl.amounts import counted
from barlowctl.cli.study_command import StudyCommand
from barlowctl.errors import UserError


def show_results(command: StudyCommand, *, quick: bool = False, last: bool = True) -> None:
    """Tables and figures of what is finished.

    Args:
        quick: until all is finished, no figures, and no tables shown. last: this is the command's result.

    Raises:
        UserError: nothing is finished.
    """
    from barlowctl.study import table
    from barlowctl.study.cells import finished_of_all_layers, write_results

    console, cells = command.console, command.directory.cells
    directory = command.directory.with_finished(command.whole)
    finished = sum(cell.record is not None for cell in cells)
    quick = quick and finished < len(cells)
    anything = any(row["finished"] for study in directory.studies for row in table.rows(directory, study))
    if not anything and not quick:
        raise UserError(
            f"nothing of this is finished in '{directory.out}' (another process may be at it)",
            next="without --show",
        )
    files, why = write_results(directory, figures=not quick)
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
    console.say(
        f"{finished} of {counted(len(cells), 'cell')} {'is' if len(cells) == 1 else 'are'} finished; written into "
        f"{directory.out}:"
    )
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
