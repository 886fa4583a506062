"""What a person writes on a run after it was made: a note in its folder, another name. No torch."""

from __future__ import annotations

import os
from pathlib import Path

from barlowctl import files, shell
from barlowctl.data.names import require_text
from barlowctl.errors import UserError
from barlowctl.locks import holding
from barlowctl.output_paths import free, why_not_written
from barlowctl.runs import rundir
from barlowctl.runs.history import NOTE


def write_note(run: Path, text: str) -> None:
    """Write a note on a run in place of the one that is there; an empty one takes it away.

    Raises:
        UserError: it is not UTF-8, or cannot be written.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        raise UserError("the note is not text in UTF-8", next="write it in UTF-8") from None
    try:
        if text.strip():
            files.write_bytes(run / NOTE, f"{text.strip()}\n".encode())
        else:
            files.remove(run / NOTE)
    except OSError as error:
        why = why_not_written(error, run)
        raise UserError(f"'{run / NOTE}' cannot be written: {why}", next=shell.line("ls", "-ld", run)) from error


def rename(run: Path, name: str) -> Path:
    """Give a run's folder another name beside the others; returns where it is now.

    Raises:
        UserError: the name is none or is taken, a process trains in the run, or the run is a link or a study's cell.
    """
    if not name.strip() or name.startswith((".", "-")) or os.sep in name:
        raise UserError(
            f"'{name}' is no name of a run",
            allowed="letters, digits and signs, without a slash, and with neither a dot nor a dash in front",
            next="choose another name",
        )
    require_text(Path(name))
    target = run.parent / name
    if run.is_symlink():
        raise UserError(f"'{run}' is a link to '{run.resolve()}'", next=_again(run.resolve(), name))
    if (study := rundir.study_of(run)) is not None:
        raise UserError(
            f"'{run}' is a cell of the study in '{study}', which finds it by its name",
            allowed="runs that are no cells",
            next="barlowctl runs list",
        )
    if os.path.lexists(target):
        raise UserError(f"'{target}' exists already", next=_again(run, free(target).name))
    try:
        with holding(run / "lock", patience=0.5) as file:
            if file is None:
                raise UserError(
                    f"'{run}' is being trained by {rundir.holder(run)}", next="wait for it, or stop it, then rename it"
                )
            os.rename(run, target)
    except OSError as error:
        why = why_not_written(error, run.parent)
        raise UserError(f"'{run}' cannot be renamed: {why}", next=shell.line("ls", "-ld", run.parent, run)) from error
    return target


def _again(run: Path, name: str) -> str:
    return shell.line("barlowctl", "runs", "rename", run, name)
