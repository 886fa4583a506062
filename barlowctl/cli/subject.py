"""The network that a command measures: named, or that of the newest finished run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from barlowctl import shell
from barlowctl.cli.console import Console
from barlowctl.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from barlowctl.data.images.unreadable import Problem
    from barlowctl.measure.subjects import Subject


def require(named: str | None, data: str | None = None, splits: Sequence[str] = ("train", "test")) -> None:
    """Refuse what a measuring command names and is not there: before torch is imported, which takes seconds.

    Args:
        named: the network; None: that of the newest finished run.
        data: the images; None: those of the run. splits: that are read.

    Raises:
        UserError: no run is finished, or nothing is where the network or the images should be.
    """
    from barlowctl.runs import newest
    from barlowctl.runs.subjects import refuse_other_paths

    if named is None:
        newest.newest_finished()
    else:
        refuse_images(named)
        refuse_other_paths(named)
    if data is not None:
        from barlowctl.data import home

        for split in splits:
            home.resolve(data, split)


def refuse_images(named: str) -> None:
    """Refuse images in the place of the network: a folder of them, a packed file or a data set of the data home.

    Raises:
        UserError: next is the command that names them with `--data`.
    """
    from pathlib import Path

    from barlowctl.data import home, sources
    from barlowctl.runs import rundir

    path = Path(named).expanduser()
    if any(rundir.is_run(run) or rundir.run_of_checkpoint(run) for run in (path, rundir.runs_home() / named)):
        return
    if path.is_dir() and not (path / "config.json").exists() and sources.has_images(path):
        what = "a folder of images"
    elif path.suffix == ".beton" and path.is_file():
        what = "a packed file of images"
    elif not path.exists() and named in home.available():
        what = "a data set of the data home"
    else:
        return
    raise UserError(
        f"'{named}' is {what}, and no network",
        allowed="images with --data, beside a network or alone (then it is that of the newest finished run)",
        next=shell.line("--data", named, "without", named),
    )


def open_named(console: Console, subject: str | None, geometry: list[str]) -> tuple[str, Subject]:
    """The subject's name and the subject; says which run was taken where none was named, and the subject's notes.

    Args:
        geometry: overrides of how images are prepared.

    Raises:
        UserError: no run is finished, or what was named cannot be opened.
    """
    from barlowctl.measure.subjects import open_subject

    name = str(newest_finished(console)) if subject is None else subject
    opened = open_subject(name, overrides=geometry)
    for note in opened.notes:
        console.say(f"note: {note}")
    return name, opened


def say_unreadable(console: Console, problems: list[Problem]) -> None:
    """The images that could not be read, by name."""
    from barlowctl.data.images.unreadable import listed

    for line in listed(problems):
        console.say(line)


def newest_finished(console: Console) -> Path:
    """The run that a command takes where none was named; says which it is.

    Raises:
        UserError: no run is finished.
    """
    from barlowctl.runs import newest

    run = newest.newest_finished()
    console.say(f"no run was named: taking the newest finished one, {run}")
    return run
