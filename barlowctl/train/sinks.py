"""Sinks that record a run's events: JSON lines always, TensorBoard and W&B when asked for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

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
    """Append each record to `path`. On resume, records of steps that will be done again are dropped."""
    if path.exists():
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        kept = [line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= start_step]
        path.write_text("".join(kept), encoding="utf-8")

    def sink(event: Event) -> None:
        if record := _record(event):
            with open(path, "a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")

    return sink


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
