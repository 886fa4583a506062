"""What the engine says while it works. Values only; whoever shows or stores them is a sink.

Imports the standard library only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class RunStarted:
    """A run begins, or goes on."""

    run: Path
    first_lines: Mapping[str, str]  # label -> value, the run's first lines
    epochs: float
    steps_per_epoch: int
    steps: int  # of the whole run
    start_step: int  # 0 unless resumed
    terms: tuple[str, ...] = ()  # names of the loss's terms, in their order
    iterations: bool = False  # what people count: iterations, for an epoch is no pass over the images


@dataclass(frozen=True)
class StepDone:
    """One optimizer step. `values` are the metrics of the step under their names in metrics.jsonl."""

    step: int  # steps done so far
    epoch: int  # epoch in progress, from 0
    logged: bool  # False: progress only, nothing to record
    values: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class EpochDone:
    """An epoch ends."""

    step: int
    epoch: int
    values: Mapping[str, float]


@dataclass(frozen=True)
class Evaluated:
    """Online evaluation: kNN where labels exist, and the diagnostics."""

    step: int
    epoch: int  # -1: before the first step
    values: Mapping[str, float]


@dataclass(frozen=True)
class CheckpointSaved:
    """A checkpoint is complete, in the folder `path`."""

    step: int
    path: Path


@dataclass(frozen=True)
class Notice:
    """Something the user should know that is no error."""

    text: str


@dataclass(frozen=True)
class Measuring:
    """A measurement comes to its next part, which takes a while."""

    part: str


@dataclass(frozen=True)
class RunFinished:
    """The run is complete; `values` go into result.json."""

    run: Path
    values: Mapping[str, float | int | str]


Event = RunStarted | StepDone | EpochDone | Evaluated | CheckpointSaved | Notice | Measuring | RunFinished
Sink = Callable[[Event], None]


def broadcast(*sinks: Sink) -> Sink:
    """One sink that passes every event to all of them, in order."""

    def emit(event: Event) -> None:
        for sink in sinks:
            sink(event)

    return emit
