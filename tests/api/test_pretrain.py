"""`barlowctl.pretrain`: the command's numbers, and a process that is afterwards as it was."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import barlowctl
from barlowctl import events
from barlowctl.api import training
from barlowctl.api.run import Run
from barlowctl.cli.app import run as command

TIMES = {"images_per_second", "data_wait", "cpu_seconds", "wall_seconds", "finished", "run"}
SHORT = {"train": {"epochs": 1, "checkpoint_every_steps": 0}, "eval.bank": 200}


def numbers(run: Path) -> list[dict[str, Any]]:
    """The records of a run, without times."""
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return [{key: value for key, value in json.loads(line).items() if key not in TIMES} for line in lines]


def weights(run: Run | Path) -> bytes:
    """Of the newest checkpoint."""
    newest = max(((run.path if isinstance(run, Run) else run) / "checkpoints").iterdir())
    return (newest / "model.safetensors").read_bytes()


def test_its_numbers_are_the_commands(recipe: Path, tmp_path: Path) -> None:
    flags = ["--set", "train.epochs=1", "--set", "train.checkpoint_every_steps=0", "--set", "eval.bank=200"]
    out = ["--out", str(tmp_path / "typed"), "--threads", "1", "--quiet"]
    assert command(["pretrain", "--recipe", str(recipe), *flags, *out]) == 0
    torch.set_default_dtype(torch.float64)
    try:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
            torch.rand(3)
            run = barlowctl.pretrain(recipe, overrides=SHORT, out=tmp_path / "called", threads=1)
    finally:
        torch.set_default_dtype(torch.float32)
    assert run.finished
    assert len(numbers(run.path)) > 3
    assert numbers(run.path) == numbers(tmp_path / "typed")
    assert weights(run) == weights(tmp_path / "typed")
    assert [key for key in run.metrics[0] if key not in TIMES] == list(numbers(run.path)[0])
    typed = json.loads((tmp_path / "typed" / "result.json").read_text())
    assert {key: value for key, value in run.result.items() if key not in TIMES} == {
        key: value for key, value in typed.items() if key not in TIMES
    }


def test_nothing_is_printed_and_the_process_is_as_it_was(
    recipe: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.set_num_threads(2)
    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002
    handlers = {number: signal.getsignal(number) for number in signal.valid_signals()}
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()  # noqa: NPY002
    monkeypatch.setattr(signal, "signal", _only_interrupts(signal.signal))
    with torch.no_grad():
        barlowctl.pretrain(recipe, overrides=SHORT, threads=1)
        assert not torch.is_grad_enabled()
    assert torch.is_grad_enabled()
    assert torch.get_num_threads() == 2
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.random.get_state()[1].tolist() == before[1]  # noqa: NPY002
    assert {number: signal.getsignal(number) for number in handlers} == handlers
    assert capfd.readouterr() == ("", "")


def _only_interrupts(install: Callable[..., Any]) -> Callable[..., Any]:
    """`signal.signal`, for SIGINT alone: it may be held back for the moment in which the weights change."""

    def checked(number: int, handler: Any) -> Any:
        assert number == signal.SIGINT
        return install(number, handler)

    return checked


def test_an_interrupt_leaves_a_run_that_goes_on(recipe: Path, tmp_path: Path) -> None:
    def interrupt(event: events.Event) -> None:
        if isinstance(event, events.StepDone) and event.step == 3:
            os.kill(os.getpid(), signal.SIGINT)

    whole = barlowctl.pretrain(recipe, overrides=SHORT, threads=1, out=tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt, match=r"stopped at step 3 of \d+; the state is saved") as raised:
        barlowctl.pretrain(recipe, overrides=SHORT, threads=1, out=tmp_path / "broken", on_event=interrupt)
    assert raised.value.__notes__ == [f"next: barlowctl.pretrain(resume={str(tmp_path / 'broken')!r}, threads=1)"]
    assert raised.value.__cause__ is None
    assert raised.value.__suppress_context__  # the traceback is of the call, without the engine's
    broken = barlowctl.load(tmp_path / "broken")
    assert not broken.finished
    assert broken.step == 3
    resumed = barlowctl.pretrain(resume=broken, threads=1)
    assert resumed.path == broken.path
    assert resumed.finished
    assert weights(resumed) == weights(whole)
    assert resumed.result["knn"] == whole.result["knn"]


def test_an_error_of_whoever_looks_on_ends_the_run_with_its_state(recipe: Path, tmp_path: Path) -> None:
    def fail(event: events.Event) -> None:
        if isinstance(event, events.StepDone) and event.step == 2:
            raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine") as raised:
        barlowctl.pretrain(recipe, overrides=SHORT, threads=1, out=tmp_path / "run", on_event=fail)
    assert "the state is saved" in raised.value.__notes__[0]
    assert barlowctl.load(tmp_path / "run").step == 2


@pytest.mark.parametrize("last", [events.StepDone, events.RunFinished])
def test_an_exit_of_whoever_looks_on_ends_the_program_with_the_state_saved(
    recipe: Path, tmp_path: Path, last: type[events.Event]
) -> None:
    def leave(event: events.Event) -> None:
        if isinstance(event, last) and getattr(event, "step", 2) == 2:
            sys.exit(7)

    with pytest.raises(SystemExit) as raised:
        barlowctl.pretrain(recipe, overrides=SHORT, threads=1, out=tmp_path / "run", on_event=leave)
    assert raised.value.code == 7
    run = barlowctl.load(tmp_path / "run")
    assert run.finished == (last is events.RunFinished)
    if not run.finished:
        assert "the state is saved" in raised.value.__notes__[0]
        assert run.step == 2
        assert barlowctl.pretrain(resume=run, threads=1).finished


@pytest.mark.parametrize("error", [SystemExit(7), ZeroDivisionError("mine")])
def test_what_the_function_raises_that_is_asked_to_stop_ends_the_run_with_its_state(
    recipe: Path, tmp_path: Path, error: BaseException
) -> None:
    steps = list[int]()

    def note(event: events.Event) -> None:
        steps.extend([event.step] if isinstance(event, events.StepDone) else [])

    def stop() -> bool:
        if len(steps) == 2:
            raise error
        return False

    with pytest.raises(type(error)) as raised:
        barlowctl.pretrain(recipe, overrides=SHORT, threads=1, out=tmp_path / "run", on_event=note, stop=stop)
    assert raised.value is error
    assert "the state is saved" in error.__notes__[0]
    assert barlowctl.load(tmp_path / "run").step == 2


def test_a_run_that_is_told_to_stop_is_returned(recipe: Path) -> None:
    steps = list[int]()

    def note(event: events.Event) -> None:
        if isinstance(event, events.StepDone):
            steps.append(event.step)

    run = barlowctl.pretrain(recipe, overrides=SHORT, threads=1, on_event=note, stop=lambda: len(steps) >= 2)
    assert (run.finished, run.step, steps) == (False, 2, [1, 2])


def test_events_can_be_iterated_and_left(recipe: Path, tmp_path: Path) -> None:
    kinds = []
    for event in barlowctl.pretrain_events(recipe, overrides=SHORT, threads=1, out=tmp_path / "whole"):
        kinds.append(type(event))
    assert kinds[0] is events.RunStarted
    assert kinds[-1] is events.RunFinished
    assert kinds.count(events.StepDone) == barlowctl.load(tmp_path / "whole").result["steps"]
    for event in barlowctl.pretrain_events(recipe, overrides=SHORT, threads=1, out=tmp_path / "left"):
        if isinstance(event, events.StepDone):
            break
    left = barlowctl.load(tmp_path / "left")
    assert not left.finished
    assert barlowctl.pretrain(resume=left, threads=1).result["knn"] == barlowctl.load(tmp_path / "whole").result["knn"]


def test_a_training_in_a_thread_has_the_gpu_of_who_reads_its_events(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each thread begins with the first one."""
    chosen = list[Any]()
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 3)
    monkeypatch.setattr(torch.cuda, "set_device", lambda gpu: chosen.append((threading.current_thread().name, gpu)))
    monkeypatch.setattr(training, "pretrain", lambda recipe, **options: chosen.append("trained"))
    assert list(barlowctl.pretrain_events("quickstart")) == []
    assert chosen == [("barlowctl pretrain", 3), "trained"]


def test_an_argument_that_there_is_not_is_refused(recipe: Path) -> None:
    with pytest.raises(TypeError, match="argument 'override', did you mean 'overrides'"):
        barlowctl.pretrain(recipe, override=SHORT)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="argument 'date', did you mean 'data'"):
        list(barlowctl.pretrain_events(recipe, date="photos"))  # type: ignore[call-arg]


def test_an_error_reaches_whoever_iterates(recipe: Path) -> None:
    with pytest.raises(barlowctl.UserError, match=r"train\.epochs"):
        list(barlowctl.pretrain_events(recipe, overrides={"train.epochs": -1}))


def test_a_training_that_nobody_reads_ends_when_the_main_thread_has(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the interpreter waits for threads at its end, before it closes a generator: the slow test below."""
    left = threading.Event()

    def endless(recipe: Any, *, on_event: Any, stop: Any) -> None:
        while not stop():
            on_event(0)
        left.set()

    monkeypatch.setattr(training, "pretrain", endless)
    stream = barlowctl.pretrain_events("quickstart")
    assert next(stream) == 0
    assert not left.wait(0.3)
    ended = threading.Thread()  # which has not started
    monkeypatch.setattr(threading, "main_thread", lambda: ended)
    assert left.wait(60)
    stream.close()


@pytest.mark.slow
def test_a_program_that_ends_does_not_wait_for_a_training_that_nobody_reads(checkout: Path) -> None:
    script = """
import barlowctl
from barlowctl.api import training
def endless(recipe, *, on_event, stop, **options):
    number = 0
    while not stop():
        on_event(number)
        number += 1
    print("stopped")
training.pretrain = endless
stream = barlowctl.pretrain_events("quickstart")
assert next(stream) == 0
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=checkout, timeout=120)
    assert (done.stdout, done.stderr, done.returncode) == ("stopped\n", "", 0)
