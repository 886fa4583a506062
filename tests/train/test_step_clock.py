"""How fast a run says it is: what training loses between two steps counts, and what is saved or measured does not."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from barlowctl.train import loop, step
from barlowctl.train.events import CheckpointSaved, EpochDone, Event, StepDone
from barlowctl.train.step_clock import StepClock
from tests.train import test_engine
from tests.train.test_engine import BATCHES, ROWS, SETTINGS, Loader


class Time:
    """A clock that goes on only where something says that it takes time."""

    now = 0.0

    def perf_counter(self) -> float:
        return self.now

    def takes(self, seconds: float, function: Callable[..., Any]) -> Callable[..., Any]:
        def taking(*arguments: Any, **named: Any) -> Any:
            try:
                return function(*arguments, **named)
            finally:
                self.now += seconds

        return taking


@pytest.fixture
def seconds(monkeypatch: pytest.MonkeyPatch) -> Time:
    clock = Time()
    monkeypatch.setattr(time, "perf_counter", clock.perf_counter)
    return clock


def test_a_step_lasts_from_the_end_of_the_one_before_it(seconds: Time) -> None:
    clock = StepClock()
    clock.begin()
    seconds.now = 1.0
    clock.ask()
    seconds.now = 3.0
    clock.arrive()
    seconds.now = 7.0
    assert clock.end() == (7.0, 2.0)
    seconds.now = 8.0  # its loss is read, and it is displayed
    with clock.left_out():
        seconds.now = 18.0
    clock.ask()
    seconds.now = 18.5
    clock.arrive()
    seconds.now = 20.0
    assert clock.end() == (3.0, 0.5)


@pytest.mark.parametrize("deferred", [False, True])
def test_images_per_second_are_those_that_a_clock_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: Time, deferred: bool
) -> None:
    """A deferred step is launched in no time, and the device is waited for where its loss is read, a step later."""
    batches = Loader.epoch

    def epoch(self: Loader, *arguments: Any, **named: Any) -> Iterator[Any]:
        for batch in batches(self, *arguments, **named):
            seconds.now += 0.25
            yield batch

    monkeypatch.setattr(Loader, "epoch", epoch)
    if deferred:
        monkeypatch.setattr(step, "heeds", lambda optimizer: True)
        later = step.read_later
        monkeypatch.setattr(step, "read_later", lambda *scalars: seconds.takes(1.0, later(*scalars)))
        monkeypatch.setattr(step.TrainingStep, "__init__", as_deferred(step.TrainingStep.__init__))
    else:
        monkeypatch.setattr(step.TrainingStep, "update", seconds.takes(1.0, step.TrainingStep.update))
    monkeypatch.setattr(loop.Loop, "save", seconds.takes(100.0, loop.Loop.save))
    recorder = test_engine.Recorder.__call__

    def displayed(self: test_engine.Recorder, event: Event) -> None:
        recorder(self, event)
        seconds.now += 0.5 if isinstance(event, StepDone) else 0.0

    monkeypatch.setattr(test_engine.Recorder, "__call__", displayed)
    settings = replace(SETTINGS, epochs=2, checkpoint_every_steps=2)
    result, events = test_engine.train(
        tmp_path, settings=settings, evaluate=seconds.takes(1000.0, lambda: {"knn": 1.0})
    )
    assert events.of(CheckpointSaved)
    each = 0.25 + 1.0 + 0.5  # its data, its computation, and what shows it
    # The epoch's last step is displayed after its time was taken, and two others as a part of a checkpoint that waits.
    spent = BATCHES * each - 0.5 - (2 * 0.5 if deferred else 0.0)
    for done in events.of(EpochDone):
        assert done.values["images_per_second"] == pytest.approx(BATCHES * ROWS / spent)
        assert done.values["data_wait"] == pytest.approx(BATCHES * 0.25 / spent)
    assert result["images_per_second"] == pytest.approx(BATCHES * ROWS / spent)


def as_deferred(made: Callable[..., None]) -> Callable[..., None]:
    def init(self: Any, *arguments: Any, **named: Any) -> None:
        made(self, *arguments, **{**named, "deferred": True})

    return init
