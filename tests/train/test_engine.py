"""The loop: exact resume wherever it stopped, schedule applied, non-finite losses, events in order."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from barlowctl.errors import RunDiverged, RunStopped
from barlowctl.methods import BarlowTwins, Trainable
from barlowctl.train import checkpoint, engine
from barlowctl.train.events import CheckpointSaved, EpochDone, Evaluated, Event, Notice, StepDone
from barlowctl.train.optim import build_optimizer

BATCHES, ROWS = 5, 8
SETTINGS = engine.Settings(
    epochs=3,
    steps_per_epoch=BATCHES,
    warmup_epochs=1.0,
    final_lr_scale=0.001,
    precision="fp32",
    log_every_steps=2,
    checkpoint_every_epochs=1,
    keep_checkpoints=2,
    evaluate_every_epochs=1,
)


@dataclass
class Batch:
    views: tuple[Tensor, ...]
    labels: Tensor = field(default_factory=lambda: torch.full((ROWS,), -1))
    indices: Tensor = field(default_factory=lambda: torch.arange(ROWS))

    def to(self, device: torch.device) -> tuple[Tensor, ...]:
        return tuple(view.to(device) for view in self.views)

    def hold(self, event: Any) -> None:
        raise AssertionError("nothing is copied on a CPU")


class Loader:
    """Views that depend on epoch and batch only."""

    def epoch(self, epoch: int, *, start_batch: int = 0) -> Iterator[Batch]:
        for number in range(start_batch, BATCHES):
            generator = torch.Generator().manual_seed(100 * epoch + number)
            images = torch.randint(0, 256, (ROWS, 6, 6, 1), dtype=torch.uint8, generator=generator)
            noise = torch.randint(0, 30, (ROWS, 6, 6, 1), dtype=torch.uint8, generator=generator)
            yield Batch((images, images // 2 + noise))


def to_input(views: Tensor) -> Tensor:
    return views.permute(0, 3, 1, 2).float() / 255


def make(name: str = "lars") -> tuple[BarlowTwins, torch.optim.Optimizer]:
    """A small network with batch norm and dropout: running statistics and random states must resume too."""
    torch.manual_seed(3)
    backbone = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Dropout(0.2))
    method = BarlowTwins(backbone, nn.Sequential(nn.Linear(64, 16, bias=False)), lambd=0.01)
    return method, build_optimizer(method, name, lr=0.5, lr_biases=0.01, weight_decay=1e-3, eta=0.01)


@dataclass
class Recorder:
    events: list[Event] = field(default_factory=list)

    def __call__(self, event: Event) -> None:
        self.events.append(event)

    def of(self, kind: type) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]


def train(
    path: Path,
    *,
    method: nn.Module | None = None,
    settings: engine.Settings = SETTINGS,
    optimizer: str = "lars",
    stop_at: int | None = None,
    **options: Any,
) -> tuple[dict[str, Any], Recorder]:
    recorder = Recorder()
    own, built = make(optimizer)
    if method is not None:
        own, built = method, build_optimizer(method, "sgd", lr=0.1, lr_biases=0.1, weight_decay=0.0)  # type: ignore[assignment]
    result = engine.train(
        own,
        Loader(),
        built,
        settings,
        to_input=to_input,
        device=torch.device("cpu"),
        emit=recorder,
        checkpoints=path / "checkpoints",
        recipe_digest="d",
        stop=lambda: stop_at is not None and len(recorder.of(StepDone)) >= stop_at,
        **options,
    )
    return result, recorder


def final_bytes(path: Path) -> list[bytes]:
    last = checkpoint.list_checkpoints(path / "checkpoints")[-1]
    return [(last / name).read_bytes() for name in ("model.safetensors", "optimizer.safetensors", "random.safetensors")]


@pytest.mark.parametrize(("before", "after"), [("fp32", "fp16"), ("bf16", "fp16"), ("fp16", "fp32"), ("fp16", "bf16")])
def test_a_run_goes_on_on_a_device_that_computes_in_another_precision(tmp_path: Path, before: str, after: str) -> None:
    """Begun on a CPU, which has no fp16 and scales no gradient, and resumed where it is real; and the other way."""
    before_resume, resumed = replace(SETTINGS, precision=before), replace(SETTINGS, precision=after)
    with pytest.raises(RunStopped):
        train(tmp_path, settings=before_resume, stop_at=7)
    result, recorder = train(tmp_path, settings=resumed, resume=True)
    assert result["steps"] == 3 * BATCHES
    assert all(math.isfinite(event.values["loss"]) for event in recorder.of(StepDone))
    assert [notice.text for notice in recorder.of(Notice)] == [
        f"computed in {before} until here, in {after} on this device from here on"
    ]
    saved = checkpoint.load_latest(tmp_path / "checkpoints").state.extra
    assert (saved["precision"], bool(saved["scaler"])) == (after, after == "fp16")


def test_a_checkpoint_from_before_precisions_were_kept_resumes_in_fp16(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(RunStopped):
        train(tmp_path, stop_at=7)
    load_latest = checkpoint.load_latest

    def without(directory: Path) -> checkpoint.Loaded:
        loaded = load_latest(directory)
        extra = {key: value for key, value in loaded.state.extra.items() if key != "precision"}
        return replace(loaded, state=replace(loaded.state, extra=extra))

    monkeypatch.setattr(checkpoint, "load_latest", without)
    _, recorder = train(tmp_path, settings=replace(SETTINGS, precision="fp16"), resume=True)
    assert [notice.text[:31] for notice in recorder.of(Notice)] == ["computed in fp32 or bf16 until "]


@pytest.mark.parametrize("optimizer", ["lars", "sgd", "adamw"])
@pytest.mark.parametrize("stop_at", [1, 5, 7, 13])
def test_a_resumed_run_is_bit_identical(tmp_path: Path, optimizer: str, stop_at: int) -> None:
    """Stopped in the first epoch, at its end, in the middle, in the last one."""
    whole, _ = train(tmp_path / "whole", optimizer=optimizer)
    with pytest.raises(RunStopped) as stopped:
        train(tmp_path / "parts", optimizer=optimizer, stop_at=stop_at)
    assert stopped.value.exit_code == 3
    assert "--resume" in (stopped.value.next or "")
    torch.manual_seed(99)  # whatever the new process has drawn before
    resumed, recorder = train(tmp_path / "parts", optimizer=optimizer, resume=True)
    assert recorder.of(StepDone)[0].step == stop_at + 1
    assert final_bytes(tmp_path / "parts") == final_bytes(tmp_path / "whole")
    assert resumed["steps"] == whole["steps"] == SETTINGS.total_steps
    assert resumed["grad_norm"] == whole["grad_norm"]


def test_bf16_resumes_too(tmp_path: Path) -> None:
    settings = replace(SETTINGS, precision="bf16")
    train(tmp_path / "whole", settings=settings)
    with pytest.raises(RunStopped):
        train(tmp_path / "parts", settings=settings, stop_at=8)
    train(tmp_path / "parts", settings=settings, resume=True)
    assert final_bytes(tmp_path / "parts") == final_bytes(tmp_path / "whole")


def test_fp16_scales_gradients_and_keeps_the_scale(tmp_path: Path) -> None:
    settings = replace(SETTINGS, precision="fp16")
    _, recorder = train(tmp_path, settings=settings)
    assert all(math.isfinite(event.values["loss"]) for event in recorder.of(StepDone))
    state = checkpoint.load_latest(tmp_path / "checkpoints").state
    assert state.extra["scaler"]["scale"] > 1


def test_learning_rates_follow_the_schedule(tmp_path: Path) -> None:
    settings = replace(SETTINGS, log_every_steps=1)
    _, recorder = train(tmp_path, settings=settings)
    steps = recorder.of(StepDone)
    total, warm = SETTINGS.total_steps, BATCHES
    for number, event in enumerate(steps):
        q = 0.5 * (1 + math.cos(math.pi * (number - warm) / (total - warm)))
        expected = number / warm if number < warm else q + 0.001 * (1 - q)
        assert event.values["lr_weights"] == pytest.approx(0.5 * expected, rel=1e-12)
        assert event.values["lr_biases"] == pytest.approx(0.01 * expected, rel=1e-12)


def test_events_come_in_order_and_evaluation_when_asked(tmp_path: Path) -> None:
    calls: list[int] = []

    def evaluate() -> dict[str, float]:
        calls.append(len(calls))
        return {"knn": 10.0 * len(calls)}

    settings = replace(SETTINGS, evaluate_every_epochs=2)
    result, recorder = train(tmp_path, settings=settings, evaluate=evaluate)
    assert [event.epoch for event in recorder.of(Evaluated)] == [1, 2]  # every second epoch, and the last
    assert result["knn"] == 20.0
    assert [event.step for event in recorder.of(StepDone)] == list(range(1, 16))
    assert [event.step for event in recorder.of(StepDone) if event.logged] == [1, 2, 4, 6, 8, 10, 12, 14]
    assert [event.step for event in recorder.of(CheckpointSaved)] == [5, 10, 15]
    assert [event.epoch for event in recorder.of(EpochDone)] == [0, 1, 2]
    kinds = [type(event) for event in recorder.events[-4:]]
    assert kinds == [StepDone, EpochDone, CheckpointSaved, Evaluated]  # whatever becomes of the evaluation
    logged = next(event for event in recorder.of(StepDone) if event.logged)
    keys = {"loss", "invariance", "redundancy", "lr_weights", "grad_norm", "images_per_second", "data_wait"}
    assert keys <= set(logged.values)
    assert [event.step for event in recorder.of(StepDone) if keys <= set(event.values) and not event.logged] == [5, 15]


def test_the_gradient_norm_is_that_of_the_unscaled_gradient(tmp_path: Path) -> None:
    _, recorder = train(tmp_path, settings=replace(SETTINGS, epochs=1))
    method, _ = make()
    loss = method([to_input(view) for view in next(Loader().epoch(0)).views]).loss
    loss.backward()
    squares = sum(float(p.grad.double().square().sum()) for p in method.parameters() if p.grad is not None)
    assert recorder.of(StepDone)[0].values["grad_norm"] == pytest.approx(math.sqrt(squares), rel=1e-5)


class Terms(NamedTuple):
    loss: Tensor
    invariance: Tensor
    redundancy: Tensor


class Diverging(Trainable):
    """Its loss is not a number from the fourth call on."""

    terms: ClassVar = {"invariance": "the loss", "redundancy": "the loss"}

    def __init__(self, step: int = 3) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3, 3))
        self.calls, self.step = 0, step

    def forward(self, views: Any, targets: Any = None) -> Terms:
        self.calls += 1
        loss = self.weight.square().sum() * (math.nan if self.calls == self.step + 1 else 1.0)
        return Terms(loss, loss, loss)


def test_a_loss_that_is_not_finite_stops_the_run_with_sound_weights(tmp_path: Path) -> None:
    with pytest.raises(RunDiverged, match="loss is nan at step 3") as stopped:
        train(tmp_path, method=Diverging())
    assert stopped.value.exit_code == 5
    assert "optimizer.lr" in (stopped.value.next or "")
    saved = checkpoint.load_latest(tmp_path / "checkpoints").state
    assert saved.step == 3
    assert saved.model["weight"].isfinite().all()


def test_a_first_loss_that_is_not_finite_is_no_learning_rates_fault(tmp_path: Path) -> None:
    with pytest.raises(RunDiverged, match="loss is nan at step 0 ") as stopped:
        train(tmp_path, method=Diverging(0))
    advice = stopped.value.next or ""
    assert "optimizer.lr" not in advice
    assert advice.startswith("`barlowctl data preview` shows whether the images are sound")
    assert "in a network of your own look for" in advice


def test_a_damaged_checkpoint_is_skipped_with_a_note(tmp_path: Path) -> None:
    whole, _ = train(tmp_path / "whole")
    with pytest.raises(RunStopped):
        train(tmp_path / "parts", stop_at=12)
    newest = checkpoint.list_checkpoints(tmp_path / "parts" / "checkpoints")[-1]
    file = newest / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-7])
    _, recorder = train(tmp_path / "parts", resume=True)
    assert "not usable" in recorder.of(Notice)[0].text
    assert recorder.of(StepDone)[0].step == 11
    assert final_bytes(tmp_path / "parts") == final_bytes(tmp_path / "whole")
    assert whole["epochs"] == 3


@pytest.mark.parametrize(("every_steps", "steps"), [(0, [15]), (5, [5, 10, 15]), (10, [10, 15]), (4, [4, 8, 12, 15])])
def test_steps_to_a_checkpoint_count_where_they_end_an_epoch_too(
    tmp_path: Path, every_steps: int, steps: list[int]
) -> None:
    settings = replace(SETTINGS, checkpoint_every_steps=every_steps, checkpoint_every_epochs=10, keep_checkpoints=9)
    train(tmp_path, settings=settings)
    written = checkpoint.list_checkpoints(tmp_path / "checkpoints")
    assert [int(folder.name.removeprefix("step-")) for folder in written] == steps


HALF_AN_EPOCH_MORE = replace(SETTINGS, epochs=2.5, checkpoint_every_steps=3)  # 12.5 steps: 12, in three epochs


def test_part_of_an_epoch_is_trained_evaluated_and_saved(tmp_path: Path) -> None:
    result, recorder = train(tmp_path, settings=HALF_AN_EPOCH_MORE, evaluate=lambda: {"knn": 1.0})
    assert (result["steps"], result["epochs"]) == (12, 2.5)
    assert [event.step for event in recorder.of(EpochDone)] == [5, 10, 12]
    assert [event.step for event in recorder.of(Evaluated)] == [5, 10, 12]
    assert checkpoint.load_latest(tmp_path / "checkpoints").state.step == 12
    assert HALF_AN_EPOCH_MORE.lr_factor(12) == pytest.approx(0.001)  # the schedule ends with the run


@pytest.mark.parametrize("stop_at", [4, 11])
def test_part_of_an_epoch_resumes_bit_identically(tmp_path: Path, stop_at: int) -> None:
    train(tmp_path / "whole", settings=HALF_AN_EPOCH_MORE)
    with pytest.raises(RunStopped):
        train(tmp_path / "parts", settings=HALF_AN_EPOCH_MORE, stop_at=stop_at)
    train(tmp_path / "parts", settings=HALF_AN_EPOCH_MORE, resume=True)
    assert final_bytes(tmp_path / "parts") == final_bytes(tmp_path / "whole")


def test_the_evaluation_after_part_of_an_epoch_is_made_at_a_resume(tmp_path: Path) -> None:
    def interrupted() -> dict[str, float]:
        raise KeyboardInterrupt

    settings = replace(HALF_AN_EPOCH_MORE, evaluate_every_epochs=3)  # after the last one only
    with pytest.raises(RunStopped):
        train(tmp_path, settings=settings, evaluate=interrupted)
    result, recorder = train(tmp_path, settings=settings, resume=True, evaluate=lambda: {"knn": 2.0})
    assert [event.step for event in recorder.of(Evaluated)] == [12]
    assert result["knn"] == 2.0
    assert recorder.of(StepDone) == []
