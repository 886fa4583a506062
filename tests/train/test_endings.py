"""However a run ends, its state is that of the last completed step, is saved, and goes on bit-identically."""

from __future__ import annotations

import copy
import json
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from barlowctl.errors import RunDiverged, RunStopped, UserError, one_line
from barlowctl.signals import stop_requests
from barlowctl.train import checkpoint, engine
from barlowctl.train.events import CheckpointSaved, EpochDone, Evaluated, Event, Notice, StepDone
from barlowctl.train.step import TrainingStep
from tests.train.test_engine import SETTINGS, Batch, Loader, Recorder, final_bytes, make, to_input

EVERY_STEP = replace(SETTINGS, log_every_steps=1)


class Failing(Loader):
    """A loader that raises instead of giving a batch: at its `at`-th call over all epochs, counted from 1."""

    def __init__(self, error: BaseException | None = None, at: int = 0) -> None:
        self.error, self.at, self.given = error, at, 0

    def epoch(self, epoch: int, *, start_batch: int = 0) -> Iterator[Batch]:
        for batch in super().epoch(epoch, start_batch=start_batch):
            self.given += 1
            if self.error is not None and self.given == self.at:
                raise self.error
            yield batch


def run(folder: Path, *, loader: Any = None, emit: Any = None, prepare: Any = None, **options: Any) -> Recorder:
    """Train the small network of test_engine; `prepare(method, optimizer)` breaks something in it."""
    method, optimizer = make()
    if prepare is not None:
        prepare(method, optimizer)
    recorder = Recorder()

    def everywhere(event: Event) -> None:
        recorder(event)
        if emit is not None:
            emit(event)

    with stop_requests() as stop:
        engine.train(
            method,
            loader or Loader(),
            optimizer,
            options.pop("settings", EVERY_STEP),
            to_input=to_input,
            device=torch.device("cpu"),
            emit=everywhere,
            checkpoints=folder / "checkpoints",
            recipe_digest="d",
            stop=stop,
            **options,
        )
    return recorder


def spoiled(module: nn.Module, inputs: Any, output: torch.Tensor) -> torch.Tensor:
    """A hook after which nothing is a number."""
    return output * torch.nan


def saved_step(folder: Path) -> int:
    return checkpoint.load_latest(folder / "checkpoints").state.step


def resumes_bit_identically(folder: Path, **options: Any) -> Recorder:
    whole = folder.parent / "whole"
    run(whole, **options)
    torch.manual_seed(99)
    resumed = run(folder, resume=True, **options)
    assert final_bytes(folder) == final_bytes(whole)
    return resumed


def test_an_interrupt_before_a_step_begins_leaves_the_step_before_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Running statistics among it, which are copied when a step begins."""
    compute, calls = TrainingStep.compute, list[int]()

    def interrupted(step: TrainingStep, *arguments: Any, **options: Any) -> Any:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return compute(step, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(TrainingStep, "compute", interrupted)
        with pytest.raises(RunStopped, match="stopped at step 2 of"):
            run(tmp_path / "interrupted")
    resumes_bit_identically(tmp_path / "interrupted")


@pytest.mark.parametrize("error", [SystemExit(3), ZeroDivisionError("theirs")])
def test_whatever_whoever_is_asked_to_stop_raises_the_state_is_saved(tmp_path: Path, error: BaseException) -> None:
    calls = list[int]()

    def stop() -> bool:
        calls.append(1)
        if len(calls) == 4:
            raise error
        return False

    method, optimizer = make()
    with pytest.raises(type(error)) as raised:
        engine.train(
            method, Loader(), optimizer, EVERY_STEP, to_input=to_input, device=torch.device("cpu"),
            emit=Recorder(), checkpoints=tmp_path / "run" / "checkpoints", recipe_digest="d", stop=stop,
        )  # fmt: skip
    step = saved_step(tmp_path / "run")
    assert step > 0
    assert f"the state of step {step} is saved" in raised.value.__notes__[0]
    resumes_bit_identically(tmp_path / "run")


def forward_fails(error: BaseException, at: int) -> Any:
    """The `at`-th forward pass draws its dropout, moves the running statistics, and fails then."""

    def prepare(method: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        calls = 0
        compute = method.forward

        def forward(views: Any, targets: Any) -> Any:
            nonlocal calls
            terms = compute(views, targets)
            calls += 1
            if calls == at:
                raise error
            return terms

        method.forward = forward  # type: ignore[method-assign]

    return prepare


ERRORS = {
    "bad input": UserError("sample 7 is not a readable image", next="remove it"),
    "a file that is gone": FileNotFoundError(2, "No such file or directory", "7.jpg"),
    "a fault of ours": KeyError("oops"),
    "memory": MemoryError(),
}


@pytest.mark.parametrize("error", ERRORS.values(), ids=ERRORS)
@pytest.mark.parametrize("at", [4, 8])
def test_an_error_of_the_loader_saves_the_state_and_says_so(tmp_path: Path, error: Exception, at: int) -> None:
    parts = tmp_path / "parts"
    with pytest.raises(Exception, match=r".*") as raised:
        run(parts, loader=Failing(copy.copy(error), at))
    message = one_line(raised.value)
    go_on = f"barlowctl pretrain --resume {parts}"
    assert f"; the state of step {at - 1} is saved" in message
    assert go_on in (raised.value.next or "").splitlines() if isinstance(raised.value, UserError) else go_on in message
    assert isinstance(raised.value, UserError) == (not isinstance(error, KeyError | MemoryError))
    assert saved_step(parts) == at - 1
    resumes_bit_identically(parts)


def test_advice_that_is_a_flag_goes_with_the_command_that_resumes(tmp_path: Path) -> None:
    with pytest.raises(UserError) as raised:
        run(tmp_path, loader=Failing(UserError("a worker is gone", next="--workers 1"), 3))
    assert raised.value.next == f"barlowctl pretrain --resume {tmp_path} --workers 1"


@pytest.mark.parametrize(
    ("flags", "advised"),
    [(["--workers", "4", "--threads", "1"], "--threads 1 --workers 1"), (["--wandb"], "--wandb --workers 1")],
)
def test_a_flag_that_is_advised_goes_in_the_place_of_the_one_that_a_run_was_started_with(
    tmp_path: Path, flags: list[str], advised: str
) -> None:
    (tmp_path / "run.json").write_text(json.dumps({"launch": {"before": [], "flags": flags}}))
    with pytest.raises(UserError) as raised:
        run(tmp_path, loader=Failing(UserError("a worker is gone", next="--workers 1"), 3))
    assert raised.value.next == f"barlowctl pretrain --resume {tmp_path} {advised}"


def test_an_error_before_the_first_step_saves_nothing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nothing was trained yet"):
        run(tmp_path, loader=Failing(UserError("sample 0"), 1))
    assert not checkpoint.list_checkpoints(tmp_path / "checkpoints")


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory."), MemoryError()])
def test_an_error_inside_a_step_saves_the_state_before_it(tmp_path: Path, error: Exception) -> None:
    parts = tmp_path / "parts"
    with pytest.raises(type(error)) as raised:
        run(parts, prepare=forward_fails(copy.copy(error), 7))
    assert "the state of step 6 is saved" in one_line(raised.value)
    resumes_bit_identically(parts)


def test_an_error_of_a_device_that_answers_nothing_more_says_what_is_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As CUDA's illegal addresses: whatever follows fails too, and the error is the first one."""
    lost, compute, calls = RuntimeError("CUDA error: an illegal memory access"), TrainingStep.compute, list[int]()

    def failing(step: TrainingStep, *arguments: Any, **options: Any) -> Any:
        calls.append(1)
        computed = compute(step, *arguments, **options)
        if len(calls) == 4:
            raise lost
        return computed

    def fails(step: TrainingStep, computed: Any = None) -> None:
        raise RuntimeError("CUDA error: an illegal memory access, again")

    monkeypatch.setattr(TrainingStep, "compute", failing)
    monkeypatch.setattr(TrainingStep, "undo", fails)
    with pytest.raises(RuntimeError) as raised:
        run(tmp_path / "run", settings=replace(EVERY_STEP, checkpoint_every_steps=2))
    assert raised.value is lost
    (note,) = lost.__notes__
    assert note.startswith(
        "the state could not be saved (RuntimeError: CUDA error: an illegal memory access, again); the newest "
        "checkpoint is of step 2: "
    )
    assert saved_step(tmp_path / "run") == 2


def test_a_state_that_is_saved_already_is_not_written_again_where_the_next_step_diverges(tmp_path: Path) -> None:
    """For a moment there would be neither."""

    def spoil(method: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        def to_nan(module: nn.Module, inputs: Any, output: Any) -> Any:
            count.append(1)
            return output * torch.nan if len(count) > 2 * 2 else output

        count = list[int]()
        method.backbone.register_forward_hook(to_nan)

    with pytest.raises(RunDiverged):
        run(tmp_path / "run", prepare=spoil)
    saved = tmp_path / "run" / "checkpoints" / f"step-{saved_step(tmp_path / 'run'):08d}"
    before = saved.stat().st_ino
    with pytest.raises(RunDiverged, match="the state is saved"):
        run(tmp_path / "run", resume=True, prepare=lambda method, _: method.backbone.register_forward_hook(spoiled))
    assert saved.stat().st_ino == before


def test_weights_that_were_half_changed_are_not_saved(tmp_path: Path) -> None:
    def prepare(method: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        optimizer.register_step_pre_hook(lambda *_: steps.append(1))  # type: ignore[no-untyped-call]
        optimizer.register_step_post_hook(fail)  # type: ignore[no-untyped-call]

    def fail(*_: Any) -> None:
        if len(steps) == 7:
            raise RuntimeError("in the middle of the update")

    steps: list[int] = []
    with pytest.raises(RuntimeError) as raised:
        run(tmp_path, prepare=prepare)
    assert "the state could not be saved; the newest checkpoint is of step 5" in one_line(raised.value)
    assert saved_step(tmp_path) == 5


def test_an_error_of_the_records_saves_the_state(tmp_path: Path) -> None:
    def full(event: Event) -> None:
        if isinstance(event, StepDone) and event.step == 8:
            raise UserError("'metrics.jsonl' cannot be written: No space left on device")

    parts = tmp_path / "parts"
    with pytest.raises(UserError, match="No space left on device; the state of step 8 is saved"):
        run(parts, emit=full)
    resumes_bit_identically(parts)


def test_a_full_disk_is_said_once_with_the_checkpoint_that_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, written = checkpoint._write, []

    def full(directory: Path, state: checkpoint.TrainingState) -> None:
        written.append(state.step)
        if state.step == 10:
            raise OSError(28, "No space left on device")
        write(directory, state)

    monkeypatch.setattr(checkpoint, "_write", full)
    with pytest.raises(UserError) as raised:
        run(tmp_path)
    assert raised.value.message.count("No space left on device") == 1
    assert "barlowctl pretrain --resume" in (raised.value.next or "")
    assert "the newest checkpoint is of step 5" in raised.value.message
    assert written == [5, 10]  # it is not tried again at once
    assert saved_step(tmp_path) == 5


# ---- evaluations -----------------------------------------------------------------------------------------


class Measuring:
    """An evaluation that draws random numbers, as loaders and networks may; `act` is done in the call numbered `at`."""

    def __init__(self, act: Any = None, at: int = 0) -> None:
        self.act, self.at, self.calls = act, at, 0

    def __call__(self) -> dict[str, float]:
        self.calls += 1
        torch.rand(5)
        if self.calls == self.at:
            self.act()
        return {"knn": 50.0}


def fails(error: Exception) -> Any:
    def act() -> None:
        raise error

    return act


@pytest.mark.parametrize("error", [UserError("sample 3 is not a readable image"), RuntimeError("oops")])
def test_an_evaluation_that_fails_costs_its_record_and_nothing_else(tmp_path: Path, error: Exception) -> None:
    recorder = run(tmp_path / "parts", evaluate=Measuring(fails(error), 2))
    run(tmp_path / "whole", evaluate=Measuring())
    assert final_bytes(tmp_path / "parts") == final_bytes(tmp_path / "whole")
    assert [event.epoch for event in recorder.of(Evaluated)] == [0, 2]
    assert [event.step for event in recorder.of(CheckpointSaved)] == [5, 10, 15]
    notices = [event.text for event in recorder.of(Notice)]
    assert notices == [f"no evaluation after epoch 2: {one_line(error)}; training goes on"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1])
@pytest.mark.parametrize("epoch", [2, 3])
def test_a_signal_does_not_wait_for_the_evaluation_which_a_resume_makes(
    tmp_path: Path, number: int, epoch: int
) -> None:
    """In the middle of the run, and after its last step."""
    parts = tmp_path / "parts"
    with pytest.raises(RunStopped):
        run(parts, evaluate=Measuring(lambda: signal.raise_signal(number), epoch))
    assert saved_step(parts) == 5 * epoch
    resumed = resumes_bit_identically(parts, evaluate=Measuring())
    assert [event.epoch for event in resumed.of(Evaluated)] == list(range(epoch - 1, 3))
    assert [event.epoch for event in resumed.of(EpochDone)] == list(range(epoch, 3))


def test_what_was_evaluated_is_not_evaluated_again(tmp_path: Path) -> None:
    def killed(event: Event) -> None:
        if isinstance(event, StepDone) and event.step == 6:
            raise SystemExit  # as good as SIGKILL: nothing is saved

    parts = tmp_path / "parts"
    with pytest.raises(SystemExit):
        run(parts, emit=killed, evaluate=Measuring())
    measuring = Measuring()
    resumed = run(parts, evaluate=measuring, evaluated={"knn": 49.0}, resume=True)
    assert [event.epoch for event in resumed.of(Evaluated)] == [1, 2]
    run(tmp_path / "whole", evaluate=Measuring())
    assert final_bytes(parts) == final_bytes(tmp_path / "whole")


# ---- signals ---------------------------------------------------------------------------------------------


def interrupted_twice() -> None:
    for _ in range(6):  # whoever presses Ctrl-C goes on pressing
        signal.raise_signal(signal.SIGINT)


def test_several_interrupts_in_the_data_do_not_wait_for_it(tmp_path: Path) -> None:
    class Slow(Loader):
        def epoch(self, epoch: int, *, start_batch: int = 0) -> Iterator[Batch]:
            for number, batch in enumerate(super().epoch(epoch, start_batch=start_batch)):
                if epoch == 1 and number == 2:
                    interrupted_twice()
                    raise AssertionError("waited for the data")
                yield batch

    parts = tmp_path / "parts"
    with pytest.raises(RunStopped, match="stopped at step 7 of 15; the state is saved") as stopped:
        run(parts, loader=Slow())
    assert stopped.value.exit_code == 3
    resumes_bit_identically(parts)


def test_several_interrupts_in_a_step_take_it_back(tmp_path: Path) -> None:
    def prepare(method: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        compute, calls = method.forward, []

        def forward(views: Any, targets: Any) -> Any:
            terms = compute(views, targets)
            calls.append(1)
            if len(calls) == 9:
                interrupted_twice()
            return terms

        method.forward = forward  # type: ignore[method-assign]

    parts = tmp_path / "parts"
    with pytest.raises(RunStopped, match="stopped at step 8 of 15"):
        run(parts, prepare=prepare)
    resumes_bit_identically(parts)


@pytest.mark.parametrize("place", ["update", "checkpoint"])
def test_several_interrupts_wait_for_the_update_and_the_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    steps: list[int] = []

    def prepare(method: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        def step(*_: Any) -> None:
            steps.append(1)
            if place == "update" and len(steps) == 7:
                interrupted_twice()

        optimizer.register_step_pre_hook(step)  # type: ignore[no-untyped-call]

    write = checkpoint._write

    def writing(directory: Path, state: checkpoint.TrainingState) -> None:
        if place == "checkpoint" and state.step == 5:
            interrupted_twice()
        write(directory, state)

    monkeypatch.setattr(checkpoint, "_write", writing)
    parts = tmp_path / "parts"
    with pytest.raises(RunStopped):
        run(parts, prepare=prepare)
    assert saved_step(parts) == (7 if place == "update" else 5)
    monkeypatch.setattr(checkpoint, "_write", write)
    resumes_bit_identically(parts)
