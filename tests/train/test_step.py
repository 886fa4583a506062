"""A step whose loss is read one step later: the same training, nothing read inside, and taken back exactly."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from barlowctl.errors import RunDiverged, RunStopped
from barlowctl.methods import BarlowTwins, Targets
from barlowctl.train import checkpoint, engine
from barlowctl.train.events import StepDone
from barlowctl.train.optim import OPTIMIZERS, build_optimizer, set_learning_rates
from barlowctl.train.step import TrainingStep
from tests.train.test_engine import BATCHES, SETTINGS, Loader, Recorder, final_bytes, make, to_input, train

DEFERRED = replace(SETTINGS, deferred=True)
READS = ("item", "tolist", "__bool__", "__float__", "__int__", "__index__", "numpy", "cpu")


@contextmanager
def counted_reads(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Every place where a tensor's value is asked for: on a device the host would wait there."""
    reads: list[str] = []

    def counting(name: str, read: Callable[..., Any]) -> Callable[..., Any]:
        def counted(tensor: Tensor, *args: Any) -> Any:
            reads.append(name)
            return read(tensor, *args)

        return counted

    with monkeypatch.context() as patch:
        for name in READS:
            patch.setattr(Tensor, name, counting(name, getattr(Tensor, name)))
        yield reads


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_it_trains_as_a_step_that_is_read_at_once(tmp_path: Path, optimizer: str) -> None:
    """Up to rounding: the optimizer's last lines are another kernel."""
    tolerance = 3e-2 if optimizer == "muon" else 2e-3  # it orthogonalises in bfloat16
    _, at_once = train(tmp_path / "once", optimizer=optimizer)
    _, later = train(tmp_path / "later", optimizer=optimizer, settings=DEFERRED)
    expected, actual = at_once.of(StepDone), later.of(StepDone)
    assert [event.step for event in actual] == [event.step for event in expected] == list(range(1, 3 * BATCHES + 1))
    for ours, theirs in zip(actual, expected, strict=True):
        assert ours.values.keys() == theirs.values.keys()
        for name in ("loss", "invariance", "redundancy", "lr_weights", "lr_biases"):
            if name in ours.values:
                assert ours.values[name] == pytest.approx(theirs.values[name], rel=tolerance), (ours.step, name)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("stop_at", [1, 5, 7])
def test_a_resumed_run_is_bit_identical(tmp_path: Path, optimizer: str, stop_at: int) -> None:
    whole, _ = train(tmp_path / "whole", optimizer=optimizer, settings=DEFERRED)
    with pytest.raises(RunStopped):
        train(tmp_path / "parts", optimizer=optimizer, settings=DEFERRED, stop_at=stop_at)
    rest, _ = train(tmp_path / "parts", optimizer=optimizer, settings=DEFERRED, resume=True)
    assert rest["loss"] == whole["loss"]
    assert final_bytes(tmp_path / "parts") == final_bytes(tmp_path / "whole")


@pytest.mark.parametrize(("before", "after"), [(None, True), (True, None)])
def test_a_run_goes_on_on_another_kind_of_device(tmp_path: Path, before: bool | None, after: bool | None) -> None:
    """What an optimizer is told for one device is no part of a checkpoint."""
    for name in OPTIMIZERS:
        whole, _ = train(tmp_path / name / "whole", optimizer=name)
        with pytest.raises(RunStopped):
            train(tmp_path / name / "parts", optimizer=name, settings=replace(SETTINGS, deferred=before), stop_at=7)
        saved = checkpoint.load_latest(tmp_path / name / "parts" / "checkpoints").state.optimizer
        assert all(isinstance(group["lr"], float) and not group.get("fused") for group in saved["param_groups"])
        rest, _ = train(
            tmp_path / name / "parts", optimizer=name, settings=replace(SETTINGS, deferred=after), resume=True
        )
        assert rest["loss"] == pytest.approx(whole["loss"], rel=1e-2)


class Poisoned(Loader):
    """The embeddings of one step are not finite."""

    def __init__(self, method: nn.Module, number: int) -> None:
        calls = 0

        def poison(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
            nonlocal calls
            calls += 1
            return output * math.nan if (calls - 1) // 2 == number else output

        method.projector.register_forward_hook(poison)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("optimizer", "precision"), [*((name, "fp32") for name in OPTIMIZERS), ("lars", "fp16"), ("adamw", "fp16")]
)
@pytest.mark.parametrize("number", [2, 5, 8, 13])
def test_what_was_before_a_loss_that_is_not_finite_is_restored_exactly(
    tmp_path: Path, optimizer: str, number: int, precision: str
) -> None:
    """Weights, momenta, running statistics and random states are those of a run that was stopped there."""
    settings = replace(DEFERRED, precision=precision, evaluate_every_epochs=0)
    with pytest.raises(RunStopped):
        train(tmp_path / "stopped", optimizer=optimizer, settings=settings, stop_at=number - 1)  # heard a step later
    method, built = make(optimizer)
    recorder = Recorder()
    with pytest.raises(RunDiverged, match=f"loss is nan at step {number} "):
        engine.train(
            method,
            Poisoned(method, number),
            built,
            settings,
            to_input=to_input,
            device=torch.device("cpu"),
            emit=recorder,
            checkpoints=tmp_path / "diverged" / "checkpoints",
            recipe_digest="d",
        )
    assert [event.step for event in recorder.of(StepDone)] == list(range(1, number + 1))
    assert checkpoint.load_latest(tmp_path / "diverged" / "checkpoints").state.step == number
    assert final_bytes(tmp_path / "diverged") == final_bytes(tmp_path / "stopped")


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("micro_batch", [0, 4])
def test_nothing_is_read_inside_a_step(
    monkeypatch: pytest.MonkeyPatch, optimizer: str, precision: str, micro_batch: int
) -> None:
    method, built = make(optimizer)
    step = TrainingStep(
        method.train(),
        built,
        to_input=to_input,
        device=torch.device("cpu"),
        precision=precision,
        micro_batch=micro_batch,
        deferred=True,
    )
    (batch, *_) = Loader().epoch(0)
    for number in range(3):
        with counted_reads(monkeypatch) as reads:
            set_learning_rates(built, 0.1 * number)
            targets = step.targets(batch.labels, batch.indices, [len(batch.labels)], number / 10)
            computed = step.compute(batch.views, targets)
            step.update(computed)
        assert reads == [], reads
        with counted_reads(monkeypatch) as reads:
            loss = computed.loss()
        assert reads == ["tolist"]
        assert math.isfinite(loss)


def test_fp16_that_overflows_leaves_a_step_out_and_halves_its_scale() -> None:
    """As torch's own scaler does: the loss is finite, so that the run goes on."""
    method, built = make("lars")
    step = TrainingStep(
        method.train(), built, to_input=to_input, device=torch.device("cpu"), precision="fp16", deferred=True
    )
    (batch, *_) = Loader().epoch(0)
    targets = Targets.unlabelled(len(batch.labels))
    set_learning_rates(built, 1.0)
    step.update(step.compute(batch.views, targets))
    for scale, moves in ((2.0**60, False), (2.0**8, True)):
        step.scaler.load_state_dict({**step.scaler.state_dict(), "scale": scale})
        before = [p.detach().clone() for p in method.parameters()]
        computed = step.compute(batch.views, targets)
        step.update(computed)
        assert math.isfinite(computed.loss())
        assert all(torch.equal(a, b) for a, b in zip(before, method.parameters(), strict=True)) is not moves
        assert step.scaler.get_scale() == (scale if moves else scale / 2)


def test_heads_with_a_rate_of_their_own_keep_it() -> None:
    method = BarlowTwins(nn.Linear(6, 5), nn.Linear(5, 4), predictor=nn.Linear(4, 4), lambd=0.1)
    built = build_optimizer(method, "sgd", lr=2.0, lr_biases=1.0, weight_decay=0.0, fixed=[method.heads()["predictor"]])
    set_learning_rates(built, 0.25)
    rates = {group["name"]: (group["lr"], len(group["params"])) for group in built.param_groups}
    assert rates == {"weights": (0.5, 2), "biases": (0.25, 2), "weights-fixed": (2.0, 1), "biases-fixed": (1.0, 1)}
