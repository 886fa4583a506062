"""Recording: JSON lines that survive a resume, TensorBoard files, packages that are not installed."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from barlowctl.errors import UserError
from barlowctl.train import sinks
from barlowctl.train.events import EpochDone, Evaluated, Notice, RunFinished, StepDone


def events(start: int, stop: int) -> list[StepDone]:
    return [StepDone(step, 0, step % 2 == 0, {"loss": 1.0 / step}) for step in range(start, stop)]


def test_json_lines_hold_what_was_logged(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    sink = sinks.json_lines(path)
    for event in [*events(1, 5), EpochDone(4, 0, {"loss": 0.5}), Evaluated(4, 0, {"knn": 80.0}), Notice("x")]:
        sink(event)
    records = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(record["event"], record["step"]) for record in records] == [
        ("step", 2),
        ("step", 4),
        ("epoch", 4),
        ("evaluation", 4),
    ]
    assert records[0]["loss"] == 0.5
    assert records[-1]["knn"] == 80.0


def test_a_resumed_run_replaces_what_it_does_again(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    sink = sinks.json_lines(path)
    for event in events(1, 9):
        sink(event)
    with open(path, "a") as file:
        file.write('{"event": "step", "st')  # killed while writing
    sink = sinks.json_lines(path, start_step=4)
    for event in events(5, 9):
        sink(event)
    steps = [json.loads(line)["step"] for line in path.read_text().splitlines()]
    assert steps == [2, 4, 6, 8]


def test_tensorboard_gets_the_scalars(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    sink = sinks.tensorboard(tmp_path)
    for event in events(1, 5):
        sink(event)
    sink(RunFinished(tmp_path, {}))
    accumulator = EventAccumulator(str(tmp_path))
    accumulator.Reload()
    assert [scalar.step for scalar in accumulator.Scalars("step/loss")] == [2, 4]


def test_a_missing_package_is_named_with_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(UserError, match="wandb") as caught:
        sinks.wandb(tmp_path, {})
    assert "barlowctl[wandb]" in (caught.value.next or "")
