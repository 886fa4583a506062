"""What the engine says while it works. Values only; whoever shows or stores them is a sink.

Imports the standard library only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class RunStarted:
    """A run begins, or goes on.

    Attributes:
        run: its directory.
        first_lines: label -> value, what the command prints first: backbone, data, steps, learning rates.
        epochs: of the whole run.
        steps_per_epoch: optimizer steps between two `EpochDone`.
        steps: of the whole run.
        start_step: steps that are done; 0 unless it goes on.
        terms: names of the loss's terms, as `StepDone.values` has them.
        iterations: of a detector: an epoch here is no pass over the images, so that steps are what to show.
    """

    run: Path
    first_lines: Mapping[str, str]
    epochs: float
    steps_per_epoch: int
    steps: int
    start_step: int
    terms: tuple[str, ...] = ()
    iterations: bool = False


@dataclass(frozen=True)
class StepDone:
    """One step of the optimizer.

    Attributes:
        step: steps that are done.
        epoch: that is in progress, from 0.
        logged: whether metrics.jsonl has it, as every `train.log_every_steps`-th; else `values` has the loss alone, but
            of an epoch's last step all.
        values: `loss`, its terms, `lr_weights`, `grad_norm`, `images_per_second`, ...: the names of metrics.jsonl.
    """

    step: int
    epoch: int
    logged: bool
    values: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class EpochDone:
    """An epoch ends.

    Attributes:
        step: steps that are done.
        epoch: that has ended, from 0.
        values: means over the epoch's steps, by their names in metrics.jsonl.
    """

    step: int
    epoch: int
    values: Mapping[str, float]


@dataclass(frozen=True)
class Evaluated:
    """Online evaluation: kNN where labels exist, and the diagnostics.

    Attributes:
        step: steps that are done.
        epoch: that has ended, from 0; -1: before the first step, of a run from weights.
        values: `knn` and `linear` in percent, `effective_rank`, `rankme`, ...: the names of metrics.jsonl.
    """

    step: int
    epoch: int
    values: Mapping[str, float]


@dataclass(frozen=True)
class CheckpointSaved:
    """A checkpoint is complete.

    Attributes:
        step: steps that are done.
        path: its folder.
    """

    step: int
    path: Path


@dataclass(frozen=True)
class Notice:
    """Something the user should know that is no error.

    Attributes:
        text: a sentence or two.
    """

    text: str


@dataclass(frozen=True)
class Measuring:
    """A measurement comes to its next part, which takes a while.

    Attributes:
        part: its name.
    """

    part: str


@dataclass(frozen=True)
class RunFinished:
    """The run is complete.

    Attributes:
        run: its directory.
        values: what result.json has: loss, accuracies in percent, steps, seconds, ...
    """

    run: Path
    values: Mapping[str, float | int | str]


Event = RunStarted | StepDone | EpochDone | Evaluated | CheckpointSaved | Notice | Measuring | RunFinished
Sink = Callable[[Event], None]


def broadcast(*sinks: Sink) -> Sink:
    """One function that passes every event to all of `sinks`, in order."""

    def emit(event: Event) -> None:
        for sink in sinks:
            sink(event)

    return emit
