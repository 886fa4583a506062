"""Monitors: TensorBoard and W&B, which watch a run beside its own records.

What is missing (a package, a login) is refused before the run begins. Later an error of a monitor is said once,
and the run goes on without it: its state and metrics.jsonl matter, a picture of them does not.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from barlowctl.errors import UserError, one_line
from barlowctl.packages import required
from barlowctl.runs import rundir
from barlowctl.train.events import CheckpointSaved, Event, RunFinished, Sink
from barlowctl.train.sinks import record_of

WANDB_FILE = "wandb.json"
"""In the run directory: the run's id and project in W&B, so that a resumed run goes on in it."""


class Monitor(Protocol):
    """Something that records a run's events elsewhere."""

    name: str

    def check(self) -> None:
        """Raise a UserError if it cannot work."""

    def open(self, run: Path, start_step: int) -> Sink:
        """A sink for the run, which goes on after `start_step`; raises a UserError if it cannot work."""


def guarded(sink: Sink, name: str, tell: Callable[[str], None]) -> Sink:
    """The sink until it raises an error, which is told once; nothing after that."""
    broken = False

    def guard(event: Event) -> None:
        nonlocal broken
        if broken:
            return
        try:
            sink(event)
        except (Exception, SystemExit) as error:  # a client that gives up must not end the run
            broken = True
            tell(f"{name} is not written any more ({one_line(error)}); the run goes on without it")

    return guard


class TensorBoard:
    """Scalars for TensorBoard, in the run's folder `tensorboard`."""

    name = "TensorBoard"

    def check(self) -> None:
        """Raises a UserError where the package is not installed, or does not work."""
        _check_package("tensorboard", "torch.utils.tensorboard")

    def open(self, run: Path, start_step: int) -> Sink:
        """See `Monitor`. Points of steps that are made again, after the checkpoint, are taken back."""
        try:
            from torch.utils.tensorboard import SummaryWriter

            purge = start_step + 1 if start_step else None
            writer = SummaryWriter(str(run / "tensorboard"), purge_step=purge)
        except (Exception, SystemExit) as error:
            raise UserError(
                f"TensorBoard does not take the run: {one_line(error)}", next="without --tensorboard"
            ) from error

        def sink(event: Event) -> None:
            if record := record_of(event):
                kind, step = record.pop("event"), record.pop("step")
                for key, value in record.items():
                    writer.add_scalar(f"{kind}/{key}", value, step)
            if isinstance(event, CheckpointSaved):  # a run that is stopped has saved: what is buffered would be lost
                writer.flush()
            if isinstance(event, RunFinished):
                writer.close()

        return sink


@dataclass(frozen=True)
class Wandb:
    """Weights & Biases: project from WANDB_PROJECT, default `barlowctl`; one W&B run for a run and its resumes."""

    settings: Mapping[str, Any]
    name = "W&B"

    def check(self) -> None:
        """Raises a UserError where the package is not installed, or does not work."""
        _check_package("wandb", "wandb")

    def open(self, run: Path, start_step: int) -> Sink:
        """See `Monitor`; without a login, or a network, a UserError."""
        import wandb as client

        place = self._place(run)
        try:
            session = client.init(name=run.name, dir=str(run), config=dict(self.settings), resume="allow", **place)
        except (Exception, SystemExit) as error:  # its errors have no common ancestor
            raise UserError(
                f"W&B does not take the run: {one_line(error)}",
                allowed="a login and a network, WANDB_MODE=offline, or a run without it",
                next="wandb login\nWANDB_MODE=offline barlowctl ...\nwithout --wandb",
            ) from error
        if not (run / WANDB_FILE).is_file():
            rundir.write_json(run / WANDB_FILE, place)

        def sink(event: Event) -> None:
            if record := record_of(event):
                kind, step = record.pop("event"), record.pop("step")
                session.log({f"{kind}/{key}": value for key, value in record.items()}, step=step)
            if isinstance(event, RunFinished):
                session.finish()

        return sink

    @staticmethod
    def _place(run: Path) -> dict[str, str]:
        """Id and project: those the run has already, or new ones."""
        if (run / WANDB_FILE).is_file():
            session = rundir.read_json(run / WANDB_FILE)
            return {key: str(session[key]) for key in ("id", "project") if key in session}
        return {"id": secrets.token_hex(4), "project": os.environ.get("WANDB_PROJECT", "barlowctl")}


def _check_package(name: str, module: str) -> None:
    """Refuse a package that is not installed, or does not work. name: of the package, its extra and its flag."""
    required(f"--{name} needs the package {name}", module, extra=name, advice=f"without --{name}")
