"""The training step on a CUDA device: one CUDA graph or many kernels, it trains what the CPU trains."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from barlowctl.errors import RunDiverged, RunStopped
from barlowctl.methods import BarlowTwins
from barlowctl.train import checkpoint, engine
from barlowctl.train.events import Notice, StepDone
from barlowctl.train.online_probe import OnlineProbe
from barlowctl.train.optim import OPTIMIZERS, build_optimizer
from barlowctl.train.step import TrainingStep
from tests.train.test_engine import BATCHES, SETTINGS, Recorder
from tests.train.test_engine import Batch as HostBatch

pytestmark = pytest.mark.gpu
ROWS = 48
LONG = replace(SETTINGS, epochs=4, evaluate_every_epochs=0, log_every_steps=1)


class Batch(HostBatch):
    def hold(self, event: Any) -> None:
        event.synchronize()


class Loader:
    """Views that depend on epoch and batch only; the last batch of an epoch is smaller."""

    def epoch(self, epoch: int, *, start_batch: int = 0) -> Iterator[Batch]:
        for number in range(start_batch, BATCHES):
            generator = torch.Generator().manual_seed(100 * epoch + number)
            rows = ROWS - 7 * (number == BATCHES - 1)
            images = torch.randint(0, 256, (rows, 16, 16, 3), dtype=torch.uint8, generator=generator)
            noise = torch.randint(0, 30, (rows, 16, 16, 3), dtype=torch.uint8, generator=generator)
            yield Batch((images, images // 2 + noise), torch.full((rows,), -1), torch.arange(rows))


def to_input(views: Tensor) -> Tensor:
    return views.permute(0, 3, 1, 2).float() / 255


def make(name: str, device: str, *, dropout: float = 0.0) -> tuple[BarlowTwins, torch.optim.Optimizer]:
    torch.manual_seed(3)
    backbone = nn.Sequential(
        nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.Dropout(dropout), nn.AdaptiveAvgPool2d(4), nn.Flatten()
    )
    projector = nn.Sequential(nn.Linear(256, 64, bias=False), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 96))
    method = BarlowTwins(backbone, projector, lambd=0.01).to(device)
    rates = {"lars": 0.2, "sgd": 1e-3, "adamw": 1e-3, "muon": 1e-3}
    return method, build_optimizer(
        method, name, lr=rates[name], lr_biases=rates[name] / 10, weight_decay=1e-3, eta=0.01
    )


def train(
    path: Path,
    name: str = "lars",
    device: str = "cuda",
    *,
    settings: engine.Settings = LONG,
    stop_at: int | None = None,
    resume: bool = False,
    dropout: float = 0.0,
) -> tuple[list[float], Recorder]:
    method, optimizer = make(name, device, dropout=dropout)
    recorder = Recorder()
    engine.train(
        method,
        Loader(),
        optimizer,
        settings,
        to_input=to_input,
        device=torch.device(device),
        emit=recorder,
        checkpoints=path / "checkpoints",
        recipe_digest="d",
        stop=lambda: stop_at is not None and len(recorder.of(StepDone)) >= stop_at,
        resume=resume,
    )
    return [event.values["loss"] for event in recorder.of(StepDone)], recorder


@pytest.mark.parametrize("graph", [False, True])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_twenty_steps_are_those_of_the_cpu(tmp_path: Path, name: str, graph: bool) -> None:
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    expected, _ = train(tmp_path / "cpu", name, "cpu")
    actual, recorder = train(tmp_path / "cuda", name, settings=replace(LONG, cuda_graph=graph))
    assert not recorder.of(Notice), [notice.text for notice in recorder.of(Notice)]
    assert len(actual) == len(expected) == 4 * BATCHES
    tolerance = 0.05 if name == "muon" else 0.01  # it orthogonalises in bfloat16
    assert actual == pytest.approx(expected, rel=tolerance)


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_captured_step_is_the_one_that_was_captured(tmp_path: Path, name: str, precision: str) -> None:
    """But for the order of atomic sums; the smaller last batch is computed kernel by kernel in both."""
    settings = replace(LONG, precision=precision)
    _, eager = train(tmp_path / "eager", name, settings=settings)
    _, captured = train(tmp_path / "captured", name, settings=replace(settings, cuda_graph=True))
    assert not captured.of(Notice), [notice.text for notice in captured.of(Notice)]
    tolerance = 1e-2 if name == "muon" else 1e-4
    names = ("loss", "invariance", "redundancy", "grad_norm", "lr_weights")
    for ours, theirs in zip(captured.of(StepDone), eager.of(StepDone), strict=True):
        assert [ours.values[key] for key in names] == pytest.approx(
            [theirs.values[key] for key in names], rel=tolerance
        )


@pytest.mark.parametrize("graph", [False, True])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_resumed_run_goes_on_as_if_it_had_not_stopped(tmp_path: Path, name: str, graph: bool) -> None:
    settings = replace(LONG, cuda_graph=graph)
    whole, _ = train(tmp_path / "whole", name, settings=settings, dropout=0.2)
    with pytest.raises(RunStopped):
        train(tmp_path / "parts", name, settings=settings, dropout=0.2, stop_at=8)
    rest, _ = train(tmp_path / "parts", name, settings=settings, dropout=0.2, resume=True)
    assert rest == pytest.approx(whole[len(whole) - len(rest) :], rel=5e-3)


@pytest.mark.parametrize("graph", [False, True])
def test_a_loss_that_is_not_finite_ends_the_run_with_the_weights_before_it(tmp_path: Path, graph: bool) -> None:
    """The images of step 7 are of a kind that the network has no finite answer to."""

    class Poisoned(Loader):
        def epoch(self, epoch: int, *, start_batch: int = 0) -> Iterator[Batch]:
            for number, batch in enumerate(super().epoch(epoch, start_batch=start_batch)):
                if 5 * epoch + start_batch + number == 7:
                    batch.views[0].fill_(255)
                yield batch

    def input_of(views: Tensor) -> Tensor:
        made = to_input(views)
        return torch.where((views == 255).all(), torch.full_like(made, math.nan), made)

    settings = replace(LONG, cuda_graph=graph)
    with pytest.raises(RunStopped):
        train(tmp_path / "stopped", settings=settings, stop_at=6)  # heard a step later
    method, optimizer = make("lars", "cuda")
    with pytest.raises(RunDiverged, match="at step 7 "):
        engine.train(
            method,
            Poisoned(),
            optimizer,
            settings,
            to_input=input_of,
            device=torch.device("cuda"),
            emit=lambda event: None,
            checkpoints=tmp_path / "diverged" / "checkpoints",
            recipe_digest="d",
        )
    stopped, diverged = (
        checkpoint.load_latest(tmp_path / name / "checkpoints").state for name in ("stopped", "diverged")
    )
    assert stopped.step == diverged.step == 7
    for name in stopped.model:
        torch.testing.assert_close(diverged.model[name], stopped.model[name], rtol=1e-4, atol=1e-5)


def test_nothing_waits_for_the_device_inside_a_step() -> None:
    """What torch itself counts: with its synchronisation check set to raise, steps go through."""
    from barlowctl.train.step import TrainingStep

    for name in OPTIMIZERS:
        method, optimizer = make(name, "cuda")
        step = TrainingStep(method.train(), optimizer, to_input=to_input, device=torch.device("cuda"), precision="bf16")
        (batch, *_) = Loader().epoch(0)
        views = [view.cuda() for view in batch.views]
        targets = step.targets(batch.labels.pin_memory(), batch.indices.pin_memory(), [ROWS], 0.5)
        for _ in range(2):
            step.update(step.compute(views, targets))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that the mode is a prototype
            torch.cuda.set_sync_debug_mode("error")
            try:
                for _ in range(3):
                    computed = step.compute(views, targets)
                    step.update(computed)
            finally:
                torch.cuda.set_sync_debug_mode("default")
        assert math.isfinite(computed.loss())


def test_a_step_that_no_graph_can_hold_is_said_and_the_run_goes_on(tmp_path: Path) -> None:
    """Random numbers too, which a capture that fails would else end."""
    whole, _ = train(tmp_path / "eager", dropout=0.2)

    class Reading(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            assert math.isfinite(x.sum().item())
            return x

    method, optimizer = make("lars", "cuda", dropout=0.2)
    method.backbone.append(Reading())
    recorder = Recorder()
    engine.train(
        method,
        Loader(),
        optimizer,
        replace(LONG, cuda_graph=True),
        to_input=to_input,
        device=torch.device("cuda"),
        emit=recorder,
        checkpoints=tmp_path / "checkpoints",
        recipe_digest="d",
    )
    (notice,) = recorder.of(Notice)
    assert notice.text.startswith("steps are not captured as a CUDA graph: ")
    assert [event.values["loss"] for event in recorder.of(StepDone)] == pytest.approx(whole, rel=1e-3)


def test_nccl_with_one_process(tmp_path: Path) -> None:
    import torch.distributed as dist

    dist.init_process_group("cpu:gloo,cuda:nccl", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        values = torch.arange(6.0, device="cuda")
        dist.all_reduce(values)
        every = torch.empty(6, device="cuda")
        dist.all_gather_into_tensor(every, values)
        assert every.tolist() == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]
    finally:
        dist.destroy_process_group()


def probe_of(device: str, *, captures: bool = False) -> tuple[OnlineProbe, list[float]]:
    """An online probe after some steps on images whose brightness is their class, and the losses beside it."""
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    method, optimizer = make("sgd", device)
    probe, losses = OnlineProbe(3, 1e-2), []
    step = TrainingStep(
        method.train(),
        optimizer,
        to_input=to_input,
        device=torch.device(device),
        precision="fp32",
        captures=captures,
        probe=probe,
    )
    labels = torch.arange(ROWS) % 3
    for number in range(12):
        drawn = torch.Generator().manual_seed(number)
        images = torch.randint(0, 80, (ROWS, 16, 16, 3), dtype=torch.uint8, generator=drawn)
        images += (80 * labels).to(torch.uint8)[:, None, None, None]
        views = [images.to(device), (images // 2).to(device)]
        computed = step.compute(views, step.targets(labels, torch.arange(ROWS), [ROWS], number / 12))
        step.update(computed)
        losses.append(computed.loss())
    assert (step._captured is not None) is captures
    return probe, losses


@pytest.mark.parametrize("captures", [False, True])
def test_an_online_probe_learns_what_it_learns_on_a_cpu(captures: bool) -> None:
    """Of a replayed step too, whose features lie where the graph writes them."""
    (expected, losses), (probe, on_gpu) = probe_of("cpu"), probe_of("cuda", captures=captures)
    assert on_gpu == pytest.approx(losses, rel=1e-2)
    own, others = (each.state()["tensors"] for each in (probe, expected))
    assert own["taken"] == others["taken"] == 12
    weights, of_cpu = own["weight"].cpu().flatten(), others["weight"].flatten()  # Adam enlarges what is nearly 0
    assert torch.nn.functional.cosine_similarity(weights, of_cpu, dim=0) > 0.99
