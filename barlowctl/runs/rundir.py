"""A run's directory: what it holds, how it is made, found again and never overwritten.

recipe.toml      the resolved recipe, complete      metrics.jsonl   one JSON object per record
run.json         command, environment, git, data    checkpoints/    see `checkpoint`
result.json      written when the run is complete   lock            held while a process trains
notices.jsonl    what was said while it trained     images.txt.gz   names and sizes of images that are not packed
"""

from __future__ import annotations

import errno
import json
import os
import platform
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from barlowctl import files, locks, shell
from barlowctl.data.names import require_text
from barlowctl.errors import UserError, did_you_mean
from barlowctl.files import atomic_write
from barlowctl.locks import holding
from barlowctl.output_paths import free, why_not_written
from barlowctl.runs.resumption import resume_line

ABOUT, RESULT = "run.json", "result.json"


def runs_home() -> Path:
    """Where runs go by default: `BARLOWCTL_RUNS`, else `./runs`."""
    return Path(os.environ.get("BARLOWCTL_RUNS", "runs"))


def create(path: Path | None, name: str, contents: Mapping[str, str | bytes]) -> Path:
    """A new run directory with `contents` (name -> content): `path`, else `<runs home>/<name>-<date>-<time>`.

    Whoever sees the directory sees all of it.

    Raises:
        UserError: `path` exists already, cannot be made, or is not UTF-8.
    """
    stem = runs_home() / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}"
    directory = path or stem
    require_text(directory)
    try:
        for attempt in range(2, 100):
            if not os.path.lexists(directory):
                break
            if path is not None:
                raise _exists(path)
            directory = stem.with_name(f"{stem.name}-{attempt}")
        with files.folder_made(directory.parent), atomic_write(directory, new=True) as temporary:
            temporary.mkdir()
            for file, content in contents.items():
                (temporary / file).write_bytes(content.encode() if isinstance(content, str) else content)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):  # another process made it meanwhile
            raise _exists(directory) from None
        raise UserError(
            f"the run directory '{directory}' cannot be made: {why_not_written(error, directory.parent)}",
            next="name another place with --out",
        ) from error
    return directory


def _exists(path: Path) -> UserError:
    return UserError(f"'{path}' exists already, and a run is never overwritten", next=_go_on(path))


def _go_on(run: Path) -> str:
    """What to type where a run directory is in the way: the run goes on, or another place is named."""
    elsewhere = shell.line("--out", free(run))
    unfinished = (run / "recipe.toml").is_file() and not is_finished(run)
    return f"{resume_line(run)}\n{elsewhere}" if unfinished else elsewhere


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write a JSON file atomically.

    Raises:
        UserError: it cannot be written.
    """
    write_bytes(path, json_text(values).encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file of a run atomically.

    Raises:
        UserError: it cannot be written.
    """
    try:
        files.write_bytes(path, content)
    except OSError as error:
        raise UserError(
            f"'{path}' cannot be written: {why_not_written(error, path.parent)}",
            next=_again(path.parent),
        ) from error


def _again(folder: Path) -> str:
    """How to go on: a run by its resumption, what another command trains in a folder by that command."""
    is_whole = (folder / "recipe.toml").is_file()
    return resume_line(folder) if is_whole else "barlowctl ..."


def json_text(values: Mapping[str, Any]) -> str:
    """How values are written into a run's JSON files."""
    return json.dumps(values, indent=2, default=str) + "\n"


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file of a run.

    Raises:
        UserError: it is missing or does not parse.
    """
    run = path.parent
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(values, dict):
            raise ValueError("it is no JSON object")
        return values
    except FileNotFoundError:
        if path.name == ABOUT and (run / "recipe.toml").is_file():
            raise UserError(f"'{path}' is gone", next=shell.line("barlowctl", "runs", "restore", run)) from None
        raise UserError(
            f"'{run}' is not a run: it has no {path.name}", next="barlowctl pretrain --recipe quickstart"
        ) from None
    except ValueError as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, why: object) -> UserError:
    """The error of a JSON file of a run, with what makes it again."""
    run, damaged = path.parent, f"'{path}' is damaged: {why}"
    if path.name == ABOUT and (run / "recipe.toml").is_file():
        return UserError(damaged, next=shell.line("barlowctl", "runs", "restore", run))
    if path.name == RESULT and checkpoints_of(run):
        again = f"{shell.line('rm', path)} && {resume_line(run)}"
        return UserError(f"{damaged}; the run makes it again from its last checkpoint", next=again)
    return UserError(damaged, next="restore it from a copy, or start a new run")


def result_of(run: Path) -> dict[str, Any]:
    """The values of a run's result.json; empty: it is not finished.

    Raises:
        UserError: the file is damaged: no JSON, or without the number of steps, which every finished run notes.
    """
    path = run / RESULT
    if not path.is_file():
        return {}
    values = read_json(path)
    if not isinstance(values.get("steps"), int):
        raise _damaged(path, "it has no number of steps")
    return values


def is_finished(run: Path) -> bool:
    """Whether a run came to its end and its result can be read."""
    try:
        return bool(result_of(run))
    except UserError:
        return False


def fingerprint(about: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """images (their number) and digest of what a run was trained on, from its run.json; None where not noted."""
    data = about.get("data", {})
    if noted := data.get("fingerprint"):
        return dict(noted)
    return {"images": data["images"], "digest": data["content_hash"]} if data.get("content_hash") else None


def is_run(path: Path) -> bool:
    """Whether a directory is a run's, also one that lost its recipe or is of a version that wrote no run.json."""
    return (path / "recipe.toml").is_file() or (path / "run.json").is_file()


def checkpoint_of(run: Path, step: int) -> Path | None:
    """A run's checkpoint of a step; None: it has none."""
    path = run / "checkpoints" / f"step-{step:08d}"
    return path if path.is_dir() else None


def checkpoints_of(run: Path) -> list[Path]:
    """A run's checkpoints, oldest first (step 100,000,000 has a longer name); empty where it has none."""
    states = [path for path in (run / "checkpoints").glob("step-*") if _is_checkpoint(path)]
    return sorted(states, key=lambda path: (len(path.name), path.name))


def _is_checkpoint(path: Path) -> bool:
    return bool(re.fullmatch(r"step-\d{8,}", path.name)) and path.parent.name == "checkpoints" and path.is_dir()


def run_of_checkpoint(path: Path) -> Path | None:
    """The run that `RUN/checkpoints/step-00000123` is a state of; None: it is no such path."""
    run = path.parent.parent
    return run if _is_checkpoint(path) and is_run(run) else None


def find_state(name: str | Path) -> Path:
    """What is meant: a run (see `find`), or a checkpoint of one, by path or below the runs home.

    Raises:
        UserError: neither.
    """
    for path in (Path(name), runs_home() / name):
        if run_of_checkpoint(path):
            return path
    return find(name)


def run_around(path: Path) -> Path | None:
    """The run in whose directory something lies: its recipe.toml, a checkpoint, an export."""
    return next((folder for folder in path.parents if is_run(folder)), None) if path.exists() else None


def find(name: str | Path) -> Path:
    """The run that is meant: a directory, else the run of that name in the runs home.

    Raises:
        UserError: neither.
    """
    for path in (Path(name), runs_home() / name):
        if is_run(path):
            return path
    if run := run_around(Path(name)):
        what = "is a checkpoint of" if run_of_checkpoint(Path(name)) else "lies in"
        raise UserError(
            f"'{name}' {what} the run '{run}', and is no run itself",
            allowed="the run's directory",
            next=shell.line("barlowctl", "runs", "show", run),
        )
    names = [file.parent.name for file in runs_home().glob("*/run.json")]
    why = ": it has no recipe.toml" if Path(name).exists() else did_you_mean(str(name), names)
    raise UserError(
        f"'{name}' is not a run{why}",
        allowed="a directory that `barlowctl pretrain` made, or the name of one in BARLOWCTL_RUNS (else ./runs)",
        next="barlowctl runs list",
    )


def now() -> str:
    """The time as a run notes it."""
    return datetime.now().astimezone().isoformat(timespec="milliseconds")


@contextmanager
def lock(run: Path) -> Iterator[None]:
    """Hold the run for this process, so that no second one trains in it.

    Raises:
        UserError: another process holds it, or the directory cannot be written to.
    """
    try:
        open(
            run / "lock", "ab"
        ).close()  # as it is opened below; `touch` succeeds on a file of one's own that is read-only
    except OSError as error:
        raise UserError(
            f"'{run}' cannot be written to: {why_not_written(error, run)}",
            next="make it writable, or start a run elsewhere",
        ) from error
    with holding(run / "lock", patience=0.5) as file:
        if file is None:
            raise UserError(f"'{run}' is being trained by {holder(run)}", next="wait for it, or stop it, then resume")
        file.truncate(0)
        with suppress(OSError):  # a full disk: the lock holds, and who has it is not known
            (run / "lock").write_text(f"process {os.getpid()} on {platform.node()}", encoding="utf-8")
        try:
            yield
        finally:
            with suppress(OSError):  # a disk that fails: what went wrong before is said
                file.truncate(0)


def is_held(run: Path) -> bool:
    """Whether a process trains in the run now."""
    return locks.is_held(run / "lock")


def holder(run: Path) -> str:
    """Which process trains in a run that is held, as it noted itself."""
    with suppress(OSError, ValueError):
        return (run / "lock").read_text(encoding="utf-8").strip() or "another process"
    return "another process"


def study_of(run: Path) -> Path | None:
    """The directory of the study that a run is a cell of; None: it is none."""
    study = run.resolve().parents[2:3]
    is_cell = study and (study[0] / "study.json").is_file() and run.resolve().parents[1].name == "cells"
    return study[0] if is_cell else None
