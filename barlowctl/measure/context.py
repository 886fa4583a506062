"""What one measurement needs beside its subject: machine, data, tasks, where files go, what was left out."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import torch

from barlowctl.assemble.labelled import Labelled
from barlowctl.assemble.machine import Runtime
from barlowctl.data.images.unreadable import OnMeasuring, Problem
from barlowctl.measure.tasks import Tasks
from barlowctl.output_paths import Outputs
from barlowctl.train.events import Sink


@dataclass
class ProbeContext:
    """Where a measurement happens: the machine, the data, where files go, who is told, and what was left out."""

    data: Labelled
    runtime: Runtime
    device: torch.device
    tasks: Tasks
    folder: Path | None
    emit: Callable[[str], Sink]
    outputs: Outputs = field(default_factory=Outputs)
    on_unreadable: OnMeasuring = "raise"
    unreadable: dict[tuple[str, str], Problem] = field(default_factory=dict)

    def leave_out(self, problems: Iterable[Problem]) -> None:
        """Note images that cannot be read, each once."""
        self.unreadable.update({(problem.split, problem.name): problem for problem in problems})
