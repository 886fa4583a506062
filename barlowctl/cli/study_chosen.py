"""Which studies were named on the command line; where none was, those that lie in the directory that was."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from barlowctl import shell
from barlowctl.cli.console import Console
from barlowctl.errors import UserError, did_you_mean, nearest

if TYPE_CHECKING:
    from barlowctl.study.directory import StudyDirectory
    from barlowctl.study.recorded import RecordedStudies

ALL_METHODS = "methods"
"""The study's name as an argument: `--methods all`."""

STUDIES = Path("studies")
"""The folder of studies that were given no other place."""

NEWEST = 3
"""How many commands are named at most, those of the newest directories."""


def choose_studies(
    console: Console,
    flags: Mapping[str, bool],
    named: Sequence[str],
    *,
    others: bool,
    recipe: str | None,
    out: Path | None,
    show: bool,
) -> list[str]:
    """The paper's studies that were chosen, by flag or by name; asked for where there is none.

    Args:
        flags: name of a study -> whether its flag was given. named: by name. others: there is a grid, or methods.
        out, show: a directory was named, or what is finished is to be shown.

    Raises:
        UserError: a name that is no study's, with the nearest one; none at all, with those that are on disk.
    """
    for name in named:
        if name not in flags:
            known = [] if "." in name else [*flags, ALL_METHODS]  # a file is no slip of a study's name
            near = nearest(name, known)
            raise UserError(
                f"there is no study '{name}'{did_you_mean(name, known)}",
                allowed=f"{', '.join(flags)}, {ALL_METHODS}, --grid FILE",
                next=shell.line("barlowctl", "ablate", near, "--dry-run") if near else None,
            )
    chosen = [name for name, is_set in flags.items() if is_set or name in named]
    if chosen or others:
        return chosen
    if show or out is not None:
        _refuse_unnamed(_directories(out, recipe), show=show)
    missing = UserError(
        "no study was named" + (f", and there are no tables of one in '{out or STUDIES}'" if show else ""),
        allowed=f"{', '.join(flags)}, --methods NAMES, --grid FILE",
        next="barlowctl ablate drop-aug --recipe quickstart --dry-run",
    )
    if show:
        raise missing
    return [console.choose("Which study?", list(flags), default="drop-aug", missing=missing)]


def selection(chosen: Sequence[str], by_flag: Mapping[str, str | None], *, from_anywhere: bool = False) -> list[str]:
    """What names studies and variants, as arguments.

    Args:
        from_anywhere: for whoever reads it in another folder: files with their whole path, and without `--init`, which
            is part of the study's recipe.
    """
    words = list(chosen)
    for flag, value in by_flag.items():
        if not value or (from_anywhere and flag == "--init"):
            continue
        is_path = flag == "--grid" or (flag == "--settings-of" and os.sep in value)
        words += [flag, os.path.abspath(os.path.expanduser(value)) if from_anywhere and is_path else value]
    return words


def _directories(out: Path | None, recipe: str | None) -> list[Path]:
    """Where studies that were not named can be: in the directory that was named, or that of the recipe, or below it."""
    from barlowctl.recipe import load

    out = out or (STUDIES if recipe is None else STUDIES / load.load(recipe).name)
    records = [file for pattern in ("study.json", "*/study.json") for file in out.glob(pattern) if file.is_file()]
    return [file.parent for file in sorted(records, key=lambda file: file.stat().st_mtime, reverse=True)]


def _refuse_unnamed(directories: Sequence[Path], *, show: bool) -> None:
    """Refuse to guess a study where some are in the directories; nothing where none is.

    Raises:
        UserError: the studies that are there, with a command for each; or one of an earlier version.
    """
    from barlowctl.study.recorded import check_layout, recorded_studies

    for out in directories:
        check_layout(out)
    there = [(out, recorded) for out in directories for recorded in recorded_studies(out)]
    if there:
        raise UserError(
            "no study was named",
            allowed="; ".join(f"{', '.join(recorded.names)} in '{out}'" for out, recorded in there),
            next="\n".join(again(out, recorded, show=show) for out, recorded in there[:NEWEST]),
        )


def again(out: Path, recorded: RecordedStudies, *, show: bool) -> str:
    """The command that goes on with studies that are in a directory, or shows them."""
    first, *rest = recorded.selection
    recipe, seeds, end = out / "recipe.toml", recorded.seeds, ["--show"] if show else []
    return shell.line("barlowctl", "ablate", first, *rest, "--recipe", recipe, "--seeds", seeds, "--out", out, *end)


def other_studies(directory: StudyDirectory) -> list[str]:
    """Commands that show what else is in a study's directory."""
    from barlowctl.study.recorded import recorded_studies

    own = {study.name for study in directory.studies}
    others = [recorded for recorded in recorded_studies(directory.out) if not own & set(recorded.names)]
    return [again(directory.out, recorded, show=True) for recorded in others[:NEWEST]]
