"""Gradients, weights, statistics or an optimizer's state that are no number while the loss is one."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from barlowctl.errors import RunDiverged, RunStopped
from barlowctl.methods import BarlowTwins
from barlowctl.train import checkpoint, engine, saver
from barlowctl.train.events import CheckpointSaved, StepDone
from barlowctl.train.finite import not_finite
from barlowctl.train.optim import OPTIMIZERS
from tests.train.test_engine import BATCHES, SETTINGS, Loader, Recorder, final_bytes, make, to_input, train

QUIET = replace(SETTINGS, evaluate_every_epochs=0)


def go(
    folder: Path, method: BarlowTwins, optimizer: torch.optim.Optimizer, settings: engine.Settings, **options: Any
) -> Recorder:
    recorder = Recorder()
    engine.train(
        method,
        Loader(),
        optimizer,
        settings,
        to_input=to_input,
        device=torch.device("cpu"),
        emit=options.pop("emit", recorder),
        checkpoints=folder / "checkpoints",
        recipe_digest="d",
        **options,
    )
    return recorder


def poison(parameter: nn.Parameter, value: float, is_due: Callable[[int], bool]) -> None:
    """One number of its gradient becomes `value` in the steps, counted from 0, for which `is_due`."""
    steps = 0

    def change(parameter: Tensor) -> None:
        nonlocal steps
        if is_due(steps):
            assert parameter.grad is not None
            parameter.grad.view(-1)[-1] = value
        steps += 1

    parameter.register_post_accumulate_grad_hook(change)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("deferred", [False, True], ids=["at once", "read later"])
@pytest.mark.parametrize(("number", "value", "clip"), [(3, math.nan, 0.0), (8, -math.inf, 0.0), (8, math.nan, 1.0)])
def test_a_gradient_that_is_not_finite_ends_the_run_where_its_step_began(
    tmp_path: Path, optimizer: str, deferred: bool, number: int, value: float, clip: float
) -> None:
    """What is saved is what a run has that was stopped there; the loss is sound, and the parameter is named."""
    settings = replace(QUIET, deferred=deferred, clip_grad_norm=clip)
    with pytest.raises(RunStopped):
        train(tmp_path / "stopped", optimizer=optimizer, settings=settings, stop_at=number - deferred)
    method, built = make(optimizer)
    poison(method.get_parameter("backbone.1.bias"), value, lambda step: step == number)
    with pytest.raises(RunDiverged) as stopped:
        go(tmp_path / "diverged", method, built, settings)
    of = f"the norm of the gradient of backbone.1.bias is {abs(value)}, while the loss is "
    assert stopped.value.message.startswith(of)
    assert f", at step {number} (learning rates: " in stopped.value.message
    assert stopped.value.exit_code == 5
    assert checkpoint.load_latest(tmp_path / "diverged" / "checkpoints").state.step == number
    assert final_bytes(tmp_path / "diverged") == final_bytes(tmp_path / "stopped")


@pytest.mark.parametrize("optimizer", ["lars", "adamw"])
@pytest.mark.parametrize("deferred", [False, True], ids=["at once", "read later"])
def test_fp16s_scaling_leaves_such_a_step_out_and_the_run_goes_on(
    tmp_path: Path, optimizer: str, deferred: bool
) -> None:
    scales = []
    for poisoned in ((), (8, 9)):
        method, built = make(optimizer)
        poison(method.get_parameter("backbone.1.bias"), math.inf, poisoned.__contains__)
        settings = replace(QUIET, deferred=deferred, precision="fp16")
        recorder = go(tmp_path / str(len(poisoned)), method, built, settings)
        assert len(recorder.of(StepDone)) == 3 * BATCHES
        state = checkpoint.load_latest(tmp_path / str(len(poisoned)) / "checkpoints").state
        assert not not_finite(state.model)
        scales.append(state.extra["scaler"]["scale"])
    assert scales[1] == scales[0] / 4


def test_a_scale_at_which_all_gradients_overflow_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(saver, "SMALLEST_SCALE", 65536 / 2.0**7)
    method, built = make("lars")
    poison(method.get_parameter("backbone.1.bias"), math.nan, lambda step: True)
    with pytest.raises(RunDiverged, match=r"at step 10 fp16's loss scale is 64: .* is of step 5$"):
        go(tmp_path, method, built, replace(QUIET, precision="fp16"))


def break_buffer(method: BarlowTwins, optimizer: torch.optim.Optimizer) -> None:
    method.get_buffer("backbone.1.running_var")[1] = math.inf


def break_weight(method: BarlowTwins, optimizer: torch.optim.Optimizer) -> None:
    with torch.no_grad():
        method.get_parameter("projector.unused")[0] = math.nan


def break_state(method: BarlowTwins, optimizer: torch.optim.Optimizer) -> None:
    optimizer.state[method.get_parameter("backbone.1.bias")]["exp_avg_sq"][2] = math.inf


@pytest.mark.parametrize(
    ("break_it", "name"),
    [
        (break_buffer, "backbone.1.running_var"),
        (break_weight, "projector.unused"),
        (break_state, "the optimizer's exp_avg_sq of backbone.1.bias"),
    ],
)
@pytest.mark.parametrize("keeps_best", [False, True])
def test_a_state_that_is_not_finite_is_never_saved(
    tmp_path: Path, break_it: Callable[..., None], name: str, keeps_best: bool
) -> None:
    """Nothing of it is in the loss. The state of the checkpoint before it stays, the best one too."""
    method, built = make("adamw")
    method.projector.register_parameter("unused", nn.Parameter(torch.zeros(2)))  # type: ignore[union-attr]
    recorder = Recorder()

    def emit(event: Any) -> None:
        recorder(event)
        if isinstance(event, StepDone) and event.step == 8:
            break_it(method, built)

    best: dict[str, Any] = {"evaluate_every_epochs": 1, "checkpoint_every_epochs": 3, "keep_best": "knn"}
    settings = replace(SETTINGS, **best) if keeps_best else QUIET
    with pytest.raises(RunDiverged) as stopped:
        go(tmp_path, method, built, settings, emit=emit, evaluate=lambda: {"knn": float(len(recorder.events))})
    assert stopped.value.message == (
        f"{name} of the state of step 10 is not finite, so the run stopped; the state could not be saved; "
        "the newest checkpoint is of step 5"
    )
    assert [event.step for event in recorder.of(CheckpointSaved)] == [5]
    assert not not_finite(checkpoint.load_latest(tmp_path / "checkpoints").state.model)


def test_what_a_method_begins_with_may_be_no_number_yet(tmp_path: Path) -> None:
    """PIRL's partition is unknown until its first batch."""
    method, built = make()
    method.register_buffer("unknown", torch.full((2,), math.inf))
    go(tmp_path, method, built, QUIET)
    assert checkpoint.load_latest(tmp_path / "checkpoints").state.model["unknown"].isinf().all()


def test_not_finite_names_tensors_of_numbers_only() -> None:
    tensors = {
        "sound": torch.full((3, 2), 3e38),  # whose sum overflows float32
        "counts": torch.tensor([1, 2]),
        "empty": torch.zeros(0),
        "nan": torch.tensor([1.0, math.nan]),
        "both": torch.tensor([math.inf, -math.inf]),
        "bf16": torch.tensor(math.inf, dtype=torch.bfloat16),
    }
    assert not_finite(tensors) == {"nan", "both", "bf16"}
    assert not_finite({}) == set()
