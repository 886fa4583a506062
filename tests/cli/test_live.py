"""The live display: what it draws of a run that was measured before its first step."""

from __future__ import annotations

from pathlib import Path

from barlowctl.cli.console import Console
from barlowctl.cli.live import _Live
from barlowctl.train.events import EpochDone, Evaluated, RunStarted


def test_the_start_stays_in_sight_while_the_newest_numbers_change() -> None:
    display = _Live(Console(quiet=True))
    with display:
        display(RunStarted(Path("run"), {"recipe": "r"}, 2, 10, 20, 0, ("invariance",)))
        display(Evaluated(0, -1, {"knn": 61.0, "effective_rank": 12.0}))
        display(EpochDone(10, 0, {"loss": 5.0}))
        display(Evaluated(10, 0, {"knn": 65.5, "effective_rank": 14.0}))
        lines = [str(part) for part in display._draw().renderables[1:]]
    assert lines == ["loss 5", "kNN 65.5  rank 14", "at the start: kNN 61.0  rank 12"]
