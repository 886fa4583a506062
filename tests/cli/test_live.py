"""The live display: what it draws of a run, from its start to later epochs."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from barlowctl import waits
from barlowctl.cli import live
from barlowctl.cli.console import Console
from barlowctl.cli.live import _Lines, _Live
from barlowctl.train.events import EpochDone, Evaluated, Measuring, RunStarted, StepDone


def test_the_start_stays_in_sight_while_the_newest_numbers_change() -> None:
    display = _Live(Console(quiet=True))
    with display:
        display(RunStarted(Path("run"), {"recipe": "r"}, 2, 10, 20, 0, ("invariance",)))
        display(Evaluated(0, -1, {"knn": 61.0, "effective_rank": 12.0}))
        display(EpochDone(10, 0, {"loss": 5.0}))
        display(Evaluated(10, 0, {"knn": 65.5, "effective_rank": 14.0}))
        lines = [str(part) for part in display._draw().renderables[1:]]
    assert lines == ["loss 5", "kNN 65.5  effective rank 14", "at the start: kNN 61.0  effective rank 12"]


@pytest.mark.parametrize("start", [0, 13])
def test_every_epoch_says_how_long_it_still_takes(start: int) -> None:
    """A full bar has 0:00:00 left, and the next epoch's is not full."""
    display = _Live(Console(quiet=True))
    left = {}
    with display:
        display(RunStarted(Path("run"), {"recipe": "r"}, 4, 10, 40, start))
        for step in range(start + 1, 36):
            display(StepDone(step, (step - 1) // 10, logged=False))
            bar = display.bars.tasks[1]
            left[step] = None if bar.finished else bar.remaining
    assert left == {step: (10 - step % 10) if step % 10 else None for step in range(start + 1, 36)}


def test_a_line_of_an_epoch_shows_its_last_step(capsys: pytest.CaptureFixture[str]) -> None:
    """Of an epoch shorter than `train.log_every_steps`, too: its last step has all values, though it is not logged."""
    display = _Lines(Console())
    display(RunStarted(Path("run"), {"recipe": "r"}, 1, 3, 3, 0, ("invariance",)))
    display(StepDone(1, 0, logged=True, values={"loss": 9.0, "invariance": 8.0}))
    display(StepDone(2, 0, logged=False, values={"loss": 7.0}))
    display(StepDone(3, 0, logged=False, values={"loss": 5.0, "invariance": 4.0}))
    display(EpochDone(3, 0, {"loss": 7.0}))
    assert "mean loss 7  last step: invariance 4  " in capsys.readouterr().out


def test_within_a_long_epoch_lines_come_ever_more_seldom(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(live, "time", SimpleNamespace(monotonic=lambda: now[0]))
    display = _Lines(Console())
    display(RunStarted(Path("run"), {"recipe": "r"}, 2, 1000, 2000, 0, ()))
    capsys.readouterr()
    for step in range(1, 1001):
        now[0] += 10.0
        display(StepDone(step, 0, logged=False, values={"loss": 5.0}))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "step 6/2,000  loss 5  left 5 h 32 min"
    assert [line.partition("/")[0] for line in lines] == [
        f"step {step}" for step in (6, 18, 42, 90, 186, 366, 546, 726, 906)
    ]


@pytest.mark.parametrize("start", [0, 10])
def test_a_first_step_that_compiles_is_not_what_the_others_take(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, start: int
) -> None:
    """Of a run, or of one that goes on: 145 seconds for the first step, 0.5 for each other."""
    now = [0.0]
    monkeypatch.setattr(live, "time", SimpleNamespace(monotonic=lambda: now[0]))
    display = _Lines(Console())
    display(RunStarted(Path("run"), {"recipe": "r"}, 2, 400, 800, start, ()))
    capsys.readouterr()
    for step in range(start + 1, 401):
        now[0] += 145.0 if step == start + 1 else 0.5
        display(StepDone(step, 0, logged=False, values={"loss": 5.0}))
    display(EpochDone(400, 0, {"loss": 5.0}))
    now[0] += 200.0
    display(StepDone(800, 1, logged=False, values={"loss": 5.0}))
    display(EpochDone(800, 1, {"loss": 5.0}))
    first, *later = capsys.readouterr().out.splitlines()
    assert first == f"step {start + 1}/800  loss 5"
    assert later[-2:] == ["epoch 1/2  loss 5  left 3 min 20 s", "epoch 2/2  loss 5  left 0 s"]


def test_a_line_of_an_epoch_says_what_is_its_mean_and_what_its_last_step_s(capsys: pytest.CaptureFixture[str]) -> None:
    """Terms of a last, smaller batch stood beside the mean loss as if they added up to it."""
    display = _Lines(Console())
    display(RunStarted(Path("run"), {"recipe": "r"}, 2, 2, 2, 0, ("invariance", "redundancy")))
    capsys.readouterr()
    for step, loss in ((1, 7.0), (2, 3.0)):
        values = {"loss": loss, "invariance": loss - 1.0, "redundancy": 100.0, "lr_weights": 0.1}
        display(StepDone(step, 0, logged=step == 1, values=values))
    display(EpochDone(2, 0, {"loss": 5.0, "images_per_second": 80.0, "data_wait": 0.1}))
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("epoch 1/1  mean loss 5  images/s 80  last step: invariance 2  redundancy 100  lr 0.1")


def test_of_a_run_whose_steps_are_all_done_what_follows_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As of a detector that was stopped in its test: no step comes any more."""
    texts = list[str]()
    monkeypatch.setattr(waits, "_listener", texts.append)
    monkeypatch.setattr(live, "FIRST_STEP", 0.01)
    with live.show(Console()) as display:
        display(RunStarted(Path("run"), {"recipe": "r"}, 2, 10, 20, 20, ()))
        display(Measuring("trained; testing on 5 images"))
        time.sleep(0.1)
    assert texts == []
    assert capsys.readouterr().out.splitlines()[-1] == "trained; testing on 5 images ..."


def test_a_first_step_that_takes_long_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    texts, given = list[str](), threading.Event()
    console = Console()

    def hear(text: str) -> None:
        texts.append(text)
        given.set()

    monkeypatch.setattr(waits, "_listener", hear)
    monkeypatch.setattr(live, "FIRST_STEP", 0.01)
    with live.show(console) as display:
        display(RunStarted(Path("run"), {"recipe": "r"}, 2, 10, 20, 0, ()))
        assert given.wait(10.0)
        display(StepDone(1, 0, logged=False, values={"loss": 5.0}))
    assert texts == ["no step is done yet ..."]
    given.clear()
    monkeypatch.setattr(live, "FIRST_STEP", 0.2)
    for event in (StepDone(1, 0, logged=False, values={"loss": 5.0}), None):  # a step, or the run's end without one
        with live.show(console) as display:
            display(RunStarted(Path("run"), {"recipe": "r"}, 2, 10, 20, 0, ()))
            if event is not None:
                display(event)
        assert not given.wait(0.4)
