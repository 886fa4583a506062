"""The run's own record: one JSON object a line for every logged step, epoch and evaluation."""

from __future__ import annotations

import contextlib
import json
import os
import time
from pathlib import Path
from typing import Any

from barlowctl import files
from barlowctl.errors import UserError
from barlowctl.output_paths import why_not_written
from barlowctl.runs import rundir
from barlowctl.runs.records import read as read_records
from barlowctl.runs.resumption import resume_line
from barlowctl.train.events import EpochDone, Evaluated, Event, Notice, Sink, StepDone


def record_of(event: Event) -> dict[str, Any] | None:
    """What is recorded of an event; None: nothing."""
    match event:
        case StepDone(logged=True):
            return {"event": "step", "step": event.step, "epoch": event.epoch, **event.values}
        case EpochDone():
            return {"event": "epoch", "step": event.step, "epoch": event.epoch, **event.values}
        case Evaluated():
            return {"event": "evaluation", "step": event.step, "epoch": event.epoch, **event.values}
    return None


def json_lines(path: Path, *, start_step: int = 0) -> Sink:
    """Append each record to `path`. On resume, records of steps that will be done again are dropped.

    Raises:
        UserError: the file cannot be written.
    """
    try:
        if path.exists():
            earlier = [line for line in path.read_bytes().splitlines(keepends=True) if _is_before(line, start_step)]
            files.write_bytes(path, b"".join(earlier))
    except OSError as error:
        raise _unwritable(path, error) from error

    def sink(event: Event) -> None:
        if record := record_of(event):
            try:
                with open(path, "a", encoding="utf-8") as file:
                    file.write(json.dumps(record) + "\n")
            except OSError as error:
                raise _unwritable(path, error) from error

    return sink


def notice_lines(path: Path) -> Sink:
    """Append each notice to `path`, with the time: who looks later reads what was said.

    A disk that does not take it ends no run.
    """

    def sink(event: Event) -> None:
        if isinstance(event, Notice):
            with contextlib.suppress(OSError), open(path, "a", encoding="utf-8") as file:
                file.write(json.dumps({"time": rundir.now(), "text": event.text}) + "\n")

    return sink


def _is_before(line: bytes, start_step: int) -> bool:
    """Whether a line is a whole record of a step that will not be done again."""
    try:
        return line.endswith(b"\n") and json.loads(line)["step"] <= start_step
    except (ValueError, KeyError, TypeError):  # what a crash of the machine left
        return False


def _unwritable(path: Path, error: OSError) -> UserError:
    why, mend = why_not_written(error, path.parent), "free space or make it writable"
    if not path.parent.is_dir():
        why, mend = f"'{path.parent}' is not there any more", "put it back"
    return UserError(
        f"'{path}' cannot be written: {why}; {mend}, then go on",
        next=resume_line(path.parent),
    )


def evaluation_at(path: Path, step: int) -> dict[str, float] | None:
    """What was measured at a step, as it was recorded; None: nothing was."""
    evaluations = [
        record for record in read_records(path) if record["event"] == "evaluation" and record["step"] == step
    ]
    return (
        {key: evaluations[-1][key] for key in evaluations[-1] if key not in ("event", "step", "epoch")}
        if evaluations
        else None
    )


def put_aside(path: Path) -> Path:
    """Rename a metrics file that a run will not go on with: `metrics-<date>-<time>.jsonl` beside it.

    Raises:
        UserError: it cannot be renamed.
    """
    stem = f"{path.stem}-{time.strftime('%Y%m%d-%H%M%S')}"
    names = (path.with_name(f"{stem}{count}{path.suffix}") for count in ("", *(f"-{n}" for n in range(2, 100))))
    aside = next(name for name in names if not name.exists())
    try:
        os.rename(path, aside)
    except OSError as error:
        raise _unwritable(path, error) from error
    return aside
