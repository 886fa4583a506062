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
from barlowctl.cli.study_screen import Listed, lowered, narrowed
from barlowctl.launchers.pool import STOPPED
from barlowctl.recipe import load
from barlowctl.study import studies
from barlowctl.study.directory import StudyDirectory


@pytest.fixture
def directory(tmp_path: Path) -> StudyDirectory:
    base = load.load("quickstart")
    study = studies.loss()
    return StudyDirectory(tmp_path, base, tuple(studies.select([study], ["only-invariance", "cross-entropy"])), (0, 1))


def drawn(display: StudyDisplay, width: int = 200, height: int = 50) -> str:
    stream = io.StringIO()
    screen = Rich(file=stream, width=width, height=height)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Console, "rich", screen)
        screen.print(_Tables(display)())
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


def test_what_is_left_becomes_less_while_a_cell_runs(
    directory: StudyDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It became more, second by second, until the next cell was finished."""
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    display = StudyDisplay(Console(json=False, quiet=True), directory, 1)
    left = []
    for now[0], finished in ((1100.0, 0), (1130.0, None), (1150.0, None), (1500.0, None), (1600.0, 1), (1650.0, None)):
        if finished is not None:
            directory.cells[finished].finish({"failed": "the loss is nan at step 3", "seconds": {}})
            display.report(directory.cells[finished], None)
        left.append(display.left())
    assert left == [500.0, 470.0, 450.0, 400.0, 1200.0, 1150.0]


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


@pytest.mark.parametrize("width", [60, 80, 120, 200])
@pytest.mark.parametrize("height", [10, 24, 40])
def test_a_screen_of_any_size_has_the_cells_that_run_and_nothing_is_cut(
    tmp_path: Path, width: int, height: int
) -> None:
    """On 80 columns a table of ten became a list, of which 24 lines had the beginning, and none said what runs."""
    base = load.load("quickstart")
    directory = StudyDirectory(tmp_path, base, (studies.loss(), studies.build("lambd", base)), (0, 1))
    measures = {"knn": 81.25, "linear_top1": 84.5, "effective_rank": 33.3}
    for cell in directory.cells[:12]:
        cell.finish({"measures": measures, "seconds": {}})
    display = StudyDisplay(Console(json=False, quiet=True), directory, 2)
    at = next(cell for cell in directory.cells[12:] if cell.variant.name == "lambd-0.08")
    with at.claim():
        text = drawn(display, width, height)
    lines = text.splitlines()
    assert len(lines) < height
    assert max(map(len, lines)) <= width
    assert lines[-1].strip() == f"{at.label}: starting"
    assert f"12 of {len(directory.cells)} cells" in text
    row = next((line.split() for line in lines if line.split()[:1] == ["lambd-0.08"]), [])
    assert row[1:2] == ["1/2"]
    assert "linear top-1" in text
    assert ("verdict" in text) == (width >= 120 and height == 40)  # of Table 5, which is a line on a lower screen


def test_a_table_has_as_many_columns_and_rows_as_there_is_room_for() -> None:
    header = ["variant", "seeds", "kNN", "linear top-1", "difference", "effective rank", "paper", "verdict"]
    rows = [[f"variant-{number}" + "x" * 60, "3/3", "80", "90", "+1", "30", "70", "same sign"] for number in range(30)]
    table = Listed("Loss", header, rows, frozenset({20}), "5 of 90 cells")
    assert narrowed(table, 200).header == header
    narrow = narrowed(table, 80)
    assert narrow.header == ["variant", "seeds", "kNN", "linear top-1", "difference"]
    assert narrow.rows[3] == ["variant-3xxxxxxxx…xxxxxxxx", "3/3", "80", "90", "+1"]
    other = Listed("Grid", header, rows[:3], frozenset(), "1 of 9 cells")
    assert lowered([other], 8) == [other]
    part, line = lowered([table, other], 16)
    assert line == "Grid: 1 of 9 cells"
    assert isinstance(part, Listed)
    assert part.height == 15
    assert (part.title, rows[20] in part.rows) == ("Loss, rows 16 to 25 of 30", True)
