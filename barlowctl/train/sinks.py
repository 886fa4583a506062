"""Sinks that record a run's events: JSON lines always, TensorBoard and W&B when asked for."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from barlowctl import shell
from barlowctl.errors import UserError
from barlowctl.train.events import EpochDone, Evaluated, Event, RunFinished, Sink, StepDone


def _record(event: Event) -> dict[str, Any] | None:
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
            kept = [line for line in path.read_bytes().splitlines(keepends=True) if _is_before(line, start_step)]
            temporary = path.with_name(f".{path.name}.{os.getpid()}")
            temporary.write_bytes(b"".join(kept))
            os.replace(temporary, path)
    except OSError as error:
        raise _unwritable(path, error) from error

    def sink(event: Event) -> None:
        if record := _record(event):
            try:
                with open(path, "a", encoding="utf-8") as file:
                    file.write(json.dumps(record) + "\n")
            except OSError as error:
                raise _unwritable(path, error) from error

    return sink


def _is_before(line: bytes, start_step: int) -> bool:
    """Whether a line is a whole record of a step that will not be done again."""
    try:
        return line.endswith(b"\n") and json.loads(line)["step"] <= start_step
    except (ValueError, KeyError, TypeError):  # what a crash of the machine left
        return False


def _unwritable(path: Path, error: OSError) -> UserError:
    return UserError(
        f"'{path}' cannot be written: {error.strerror}; free space or make it writable, then go on",
        next=shell.line("barlowctl", "pretrain", "--resume", path.parent),
    )


def tensorboard(directory: Path) -> Sink:
    """Write scalars for TensorBoard.

    Raises:
        UserError: TensorBoard is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise UserError(
            "--tensorboard needs the package tensorboard, which is not installed",
            next="pip install 'barlowctl[tensorboard]'",
        ) from error
    writer = SummaryWriter(str(directory))

    def sink(event: Event) -> None:
        if record := _record(event):
            kind, step = record.pop("event"), record.pop("step")
            for key, value in record.items():
                writer.add_scalar(f"{kind}/{key}", value, step)
        if isinstance(event, RunFinished):
            writer.close()

    return sink


def wandb(run: Path, settings: dict[str, Any]) -> Sink:
    """Log to Weights & Biases (project from WANDB_PROJECT, default `barlowctl`).

    Raises:
        UserError: wandb is not installed.
    """
    try:
        import wandb as client
    except ImportError as error:
        raise UserError(
            "--wandb needs the package wandb, which is not installed", next="pip install 'barlowctl[wandb]'"
        ) from error
    import os

    session = client.init(
        project=os.environ.get("WANDB_PROJECT", "barlowctl"), name=run.name, dir=str(run), config=settings
    )

    def sink(event: Event) -> None:
        if record := _record(event):
            kind, step = record.pop("event"), record.pop("step")
            session.log({f"{kind}/{key}": value for key, value in record.items()}, step=step)
        if isinstance(event, RunFinished):
            session.finish()

    return sink
