"""What a terminal shows of a study while it runs: tables from the study's directory, and who is at what."""

from __future__ import annotations

import io
import json
import time
from pathlib import Path

import pytest
from rich.console import Console as Rich

from barlowctl.cli.console import Console
from barlowctl.cli.study_live import StudyDisplay, _Tables
from barlowctl.launchers.pool import STOPPED
from barlowctl.recipe import load
from barlowctl.study import studies
from barlowctl.study.directory import StudyDirectory


@pytest.fixture
def directory(tmp_path: Path) -> StudyDirectory:
    base = load.load("quickstart")
    study = studies.loss()
    return StudyDirectory(tmp_path, base, tuple(studies.select([study], ["only-invariance", "cross-entropy"])), (0, 1))


def drawn(display: StudyDisplay) -> str:
    stream = io.StringIO()
    Rich(file=stream, width=200).print(_Tables(display)())
    return stream.getvalue()


def test_the_tables_fill_and_running_cells_say_where_they_are(directory: StudyDirectory) -> None:
    display = StudyDisplay(Console(json=False, quiet=True), directory, 2)
    assert "0 of 6 cells" in drawn(display)
    first, second, third = directory.cells[:3]
    measures = {
        "knn": 81.25,
        "linear_top1": 84.5,
        "effective_rank": 33.3,
        "mean_diagonal": 0.5,
        "rms_off_diagonal": 0.1,
    }
    first.finish({"measures": measures, "seconds": {}})
    display.started = time.monotonic() - 1000.0
    display.report(first, None)
    with second.claim(), third.claim():
        second.path.mkdir(parents=True, exist_ok=True)
        (second.path / "run.json").write_text(json.dumps({"length": {"epochs": 3, "steps_per_epoch": 468}}))
        (second.path / "metrics.jsonl").write_text('{"event": "step", "step": 20}\n{"event": "step", "step": 1040}\n')
        third.path.mkdir(parents=True, exist_ok=True)
        (third.path / "result.json").write_text('{"steps": 20}')
        text = drawn(display)
    for part in ("81.25", "84.50", "33.3", "1/2", "57.3", "1 of 6 cells, 1 h 23 min left"):
        assert part in text, part
    assert f"{second.label}: step 1,040 of 1,404" in text
    assert f"{third.label}: measuring" in text
    assert first.label not in text


def test_without_a_terminal_there_is_a_line_for_every_cell(
    directory: StudyDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    display = StudyDisplay(Console(json=False, quiet=False), directory, 1)
    display.report(directory.cells[1], "started")
    directory.cells[1].finish({"failed": "the loss is nan at step 3", "seconds": {}})
    display.report(directory.cells[1], None)
    display.report(directory.cells[2], None)
    captured = capsys.readouterr()
    lines = [line for line in (captured.out + captured.err).splitlines() if line.startswith("[")]
    assert lines[0] == "[2/6] only-invariance, seed 0: objective.terms=invariance"
    assert lines[1].startswith("[2/6] only-invariance, seed 0: failed: the loss is nan at step 3; ")
    assert lines[2].startswith("[3/6] cross-entropy, seed 0: another process has it; ")


def test_what_is_left_is_not_said_of_a_study_that_was_stopped(
    directory: StudyDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    """A cell that came to its end beside the stopped ones has its numbers."""
    display = StudyDisplay(Console(json=False, quiet=False), directory, 2)
    display.started = time.monotonic() - 1000.0
    directory.cells[0].finish({"failed": "the loss is nan at step 3", "seconds": {}})
    for cell in directory.cells[:3]:
        display.report(cell, STOPPED)
    captured = capsys.readouterr()
    assert [line.partition(": ")[2] for line in (captured.out + captured.err).splitlines()] == [
        "failed: the loss is nan at step 3",
        "stopped",
        "stopped",
    ]
    assert display.left() == 0.0


def test_cells_that_are_finished_say_how_long_the_open_ones_take(directory: StudyDirectory) -> None:
    """One that another process has, or that could not be run, takes nothing of the time and is not waited for."""
    display = StudyDisplay(Console(json=False, quiet=True), directory, 2)
    display.started = time.monotonic() - 1000.0
    first, second, third = directory.cells[:3]
    display.report(second, None)
    assert display.left() == 0.0
    first.finish({"failed": "the loss is nan at step 3", "seconds": {}})
    display.report(first, None)
    display.report(third, "no such file")
    assert display.left() == pytest.approx(3000.0, rel=1e-3)
