"""The run's own record: JSON lines that survive a resume."""

from __future__ import annotations

import json
from pathlib import Path

from barlowctl.train import sinks
from barlowctl.train.events import EpochDone, Evaluated, Notice, StepDone


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


def test_records_go_aside_under_a_name_of_their_own(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    for text in ("a\n", "b\n"):
        path.write_text(text)
        sinks.put_aside(path)
    assert not path.exists()
    contents = sorted(file.read_text() for file in tmp_path.glob("metrics-*.jsonl"))
    assert contents == ["a\n", "b\n"]


def test_an_evaluation_is_found_by_its_step(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    assert sinks.evaluation_at(path, 4) is None
    sink = sinks.json_lines(path)
    for event in (Evaluated(4, 0, {"knn": 80.0}), EpochDone(8, 1, {"loss": 0.5}), Evaluated(12, 2, {"knn": 90.0})):
        sink(event)
    assert sinks.evaluation_at(path, 4) == {"knn": 80.0}
    assert sinks.evaluation_at(path, 8) is None
