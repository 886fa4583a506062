"""Runs removed: what each holds, why one is not removed without more ado, and the removal itself. No torch."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from barlowctl import files, shell
from barlowctl.errors import UserError
from barlowctl.locks import holding
from barlowctl.output_paths import why_not_written
from barlowctl.runs import history, rundir

OWN = {
    "recipe.toml", "recipe-edited.toml", "run.json", "result.json", "metrics.jsonl", "notices.jsonl", "lock",
    "images.txt.gz", "checkpoints", "diagnostics",
}  # fmt: skip
"""What every run writes while it trains; anything else was made of it later: measurements, exports, pages."""


@dataclass(frozen=True)
class Contents:
    """What would be gone with a run.

    state: as `runs list` has it, or "damaged". bytes: what its files take on the disk. checkpoints: their number.
    others: names in its folder that the training did not write. dependents: runs that started from its weights.
    study: the directory of the study whose cell it is.
    """

    run: Path
    state: str
    bytes: int
    checkpoints: int
    others: tuple[str, ...]
    dependents: tuple[Path, ...]
    study: Path | None

    @property
    def objections(self) -> list[str]:
        """Why it is not removed unless that is forced, a sentence each."""
        sentences = []
        if self.dependents:
            names = ", ".join(f"'{path}'" for path in self.dependents)
            sentences.append(f"the weights that {names} started from are in '{self.run}'")
        if self.study is not None:
            sentences.append(f"'{self.run}' is a cell of the study in '{self.study}', which would train it again")
        return sentences

    def as_dict(self) -> dict[str, Any]:
        """As `--json` prints it."""
        return {
            "name": self.run.name,
            "path": str(self.run),
            "state": self.state,
            "bytes": self.bytes,
            "checkpoints": self.checkpoints,
            "others": list(self.others),
            "started_from_it": [str(path) for path in self.dependents],
            "study": None if self.study is None else str(self.study),
        }


def contents(runs: Sequence[Path]) -> list[Contents]:
    """What each run holds; runs that are named too are no reason to keep one that they started from.

    Raises:
        UserError: one is a link, is being trained, or other runs lie in its folder.
    """
    for run in runs:
        _refuse(run)
    named = {run.resolve() for run in runs}
    return [_contents(run, named) for run in runs]


def _refuse(run: Path) -> None:
    """Refuse what is never removed, forced or not.

    Raises:
        UserError: see `contents`.
    """
    if run.is_symlink():
        raise UserError(
            f"'{run}' is a link to '{run.resolve()}': removing the link would free nothing",
            next=shell.line("barlowctl", "runs", "remove", run.resolve()),
        )
    if rundir.is_held(run):
        raise UserError(
            f"'{run}' is being trained by {rundir.holder(run)}",
            allowed="runs that no process trains in",
            next="wait for it, or stop it, then remove it",
        )
    if inside := next(_runs_below(run), None):
        raise UserError(
            f"'{run}' is not removed: '{inside}', another run, lies in it",
            allowed="a run with nothing but its own files",
            next=shell.line("mv", inside, run.resolve().parent),
        )


def _runs_below(run: Path) -> Iterator[Path]:
    for folder, names, _ in os.walk(run):
        names[:] = sorted(name for name in names if not name.startswith(files.PARTIAL))
        yield from (path for name in names if rundir.is_run(path := Path(folder, name)))


def _contents(run: Path, named: set[Path]) -> Contents:
    try:
        state: str = history.read(run).state
    except UserError:
        state = "damaged"
    others = sorted(name for name in os.listdir(run) if name not in OWN and not name.startswith(files.PARTIAL))
    if "cell.json" in others:
        others.remove("cell.json")
    return Contents(
        run,
        state,
        _size(run),
        len(rundir.checkpoints_of(run)),
        tuple(others),
        tuple(path for path in started_from(run) if path.resolve() not in named),
        rundir.study_of(run),
    )


def _size(folder: Path) -> int:
    """Bytes that removing a folder frees; a file that has another name elsewhere frees none."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                status = os.lstat(os.path.join(parent, name))
                total += status.st_size if status.st_nlink == 1 else 0
    return total


def started_from(run: Path) -> list[Path]:
    """The runs of the runs home, and of the folder that a run lies in, that started from its weights."""
    target = run.resolve()
    folders = dict.fromkeys((rundir.runs_home().resolve(), target.parent))
    others = (file for folder in folders for file in sorted(folder.glob("*/run.json")))
    return [file.parent for file in others if (start := _start(file)) and target in (start, *start.parents)]


def _start(file: Path) -> Path | None:
    """The weights that a run started from, by its run.json, with the links of their path followed."""
    with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
        weights = json.loads(file.read_text(encoding="utf-8"))["recipe"]["init"]["weights"]
        return Path(weights).resolve() if weights and os.path.isabs(weights) else None
    return None


def remove(runs: Sequence[Path]) -> list[Path]:
    """Remove runs: all of them get another name first, so that each is whole or gone, and if one cannot, all stay.

    Returns:
        Folders, under other names, of which something could not be removed.

    Raises:
        UserError: one cannot be renamed, or a process began to train in it; nothing is removed.
    """
    aside: list[tuple[Path, Path]] = []
    with ExitStack() as held:
        try:
            for run in runs:
                if held.enter_context(holding(run / "lock", patience=0.5)) is None:
                    raise UserError(
                        f"'{run}' is being trained by {rundir.holder(run)}; nothing was removed",
                        next="wait for it, or stop it, then remove it",
                    )
                aside.append((run, files.put_aside(run)))
        except BaseException as error:
            for run, doomed in reversed(aside):
                os.rename(doomed, run)
            if not isinstance(error, OSError):
                raise
            why = why_not_written(error, run.parent)
            raise UserError(
                f"'{run}' cannot be removed: {why}; nothing was removed", next=shell.line("ls", "-ld", run.parent, run)
            ) from error
    for _, doomed in aside:
        files.remove(doomed)
    return [doomed for _, doomed in aside if os.path.lexists(doomed)]
