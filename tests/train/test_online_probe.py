"""The online linear probe learns as torch's own modules would, and the training beside it does not know of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from barlowctl.errors import RunStopped
from barlowctl.methods import BarlowTwins, SimCLR, SwAV
from barlowctl.methods.base import Targets
from barlowctl.train import checkpoint
from barlowctl.train.events import Notice, StepDone
from barlowctl.train.online_probe import OnlineProbe
from barlowctl.train.step import TrainingStep
from tests.train import test_engine
from tests.train.test_engine import ROWS, SETTINGS, Batch, final_bytes, to_input, train

CLASSES = 3


class Labelled(test_engine.Loader):
    """Images with labels that depend on epoch and batch, some of which are missing."""

    def epoch(self, epoch: int, *, start_batch: int = 0) -> Iterator[Batch]:
        for number, batch in enumerate(super().epoch(epoch, start_batch=start_batch), start_batch):
            labels = (torch.arange(ROWS) * (number + 1) + epoch) % (CLASSES + 1) - 1
            yield Batch(batch.views, labels)


@pytest.fixture
def labelled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(test_engine, "Loader", Labelled)


class Reference:
    """The same in torch's modules: batch norm without parameters, a linear layer of zeros, cross-entropy, Adam."""

    def __init__(self, width: int, lr: float) -> None:
        self.norm, self.linear = nn.BatchNorm1d(width, affine=False), nn.Linear(width, CLASSES)
        for parameter in self.linear.parameters():
            nn.init.zeros_(parameter)
        self.norm.running_mean, self.norm.running_var = torch.zeros(width), torch.zeros(width)
        self.optimizer = torch.optim.Adam(self.linear.parameters(), lr=lr)

    def learn(self, features: Tensor, labels: Tensor) -> None:
        loss = nn.functional.cross_entropy(self.linear(self.norm(features)), labels, ignore_index=-1)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()

    def predict(self, features: Tensor, variance: Tensor) -> Tensor:
        self.norm.eval()
        self.norm.running_var = variance
        with torch.no_grad():
            return self.linear(self.norm(features))


def test_it_learns_as_torchs_modules_do() -> None:
    random = torch.Generator().manual_seed(0)
    probe, reference = OnlineProbe(CLASSES, 0.03), Reference(7, 0.03)
    variance = torch.ones(7)
    for _ in range(30):
        labels = torch.randint(-1, CLASSES, (40,), generator=random)
        features = torch.randn(40, 7, generator=random) * 2 + labels[:, None] * torch.linspace(0, 1, 7) + 5
        probe.learn(features, labels)
        reference.learn(features, labels)
        variance = 0.9 * variance + 0.1 * features.var(dim=0, correction=0)  # torch's own is the unbiased one
    queries = torch.randn(50, 7, generator=random) * 2 + 5.5
    torch.testing.assert_close(probe.predict(queries), reference.predict(queries, variance), rtol=1e-4, atol=1e-4)
    assert probe.predict(queries).argmax(1).unique().numel() == CLASSES


def test_what_does_not_count_leaves_it_as_it_is() -> None:
    probe = OnlineProbe(CLASSES, 0.1)
    assert not probe.has_learned
    features, labels = torch.randn(8, 4), torch.arange(8) % CLASSES
    probe.learn(features, labels)
    before = {name: value.clone() for name, value in probe.state()["tensors"].items()}
    assert before["weight"].abs().max() > 0.0
    probe.learn(features, torch.full((8,), -1))
    probe.learn(torch.full((8, 4), float("nan")), labels, unless=torch.ones(()))
    probe.learn(features + 3.0, labels, unless=torch.tensor(0.5))
    assert all(torch.equal(value, before[name]) for name, value in probe.state()["tensors"].items())
    probe.learn(features, labels, unless=torch.zeros(()))
    assert not torch.equal(probe.state()["tensors"]["weight"], before["weight"])


@pytest.mark.usefixtures("labelled")
@pytest.mark.parametrize("changes", [{}, {"micro_batch": 4}, {"precision": "bf16"}, {"deferred": True}], ids=str)
def test_training_is_bit_identical_with_and_without_it(tmp_path: Path, changes: dict[str, Any]) -> None:
    """Weights, running statistics of batch norm, momentum, random states and every loss."""
    settings = replace(SETTINGS, **changes)
    probe = OnlineProbe(CLASSES, 1e-2)
    optimizer = "sgd"
    _, without = train(tmp_path / "without", settings=settings, optimizer=optimizer)
    _, with_it = train(tmp_path / "with", settings=settings, optimizer=optimizer, probe=probe)
    assert [event.values["loss"] for event in with_it.of(StepDone)] == [
        event.values["loss"] for event in without.of(StepDone)
    ]
    assert final_bytes(tmp_path / "with")[::2] == final_bytes(tmp_path / "without")[::2]  # the model, random states
    own, others = (optimizer_tensors(tmp_path / name) for name in ("with", "without"))
    assert {name for name in own if name not in others} == {
        f"extra.probe.tensors.{key}" for key in probe.state()["tensors"]
    }
    assert all(torch.equal(own[name], value) for name, value in others.items())
    assert probe.state()["tensors"]["taken"] == 14  # of 15 steps: the fourth batch has no label at all
    assert probe.state()["tensors"]["weight"].abs().max() > 0.0


def optimizer_tensors(folder: Path) -> dict[str, Tensor]:
    return load_file(checkpoint.list_checkpoints(folder / "checkpoints")[-1] / "optimizer.safetensors")


@pytest.mark.usefixtures("labelled")
@pytest.mark.parametrize("stop_at", [3, 5, 12])
def test_a_resumed_probe_is_the_one_that_was_never_stopped(tmp_path: Path, stop_at: int) -> None:
    whole, first, second = (OnlineProbe(CLASSES, 1e-2) for _ in range(3))
    train(tmp_path / "whole", probe=whole)
    with pytest.raises(RunStopped):
        train(tmp_path / "parts", probe=first, stop_at=stop_at)
    train(tmp_path / "parts", probe=second, resume=True)
    assert final_bytes(tmp_path / "parts") == final_bytes(tmp_path / "whole")
    assert "extra.probe.tensors.weight" in optimizer_tensors(tmp_path / "parts")
    assert torch.equal(second.predict(torch.ones(2, 64)), whole.predict(torch.ones(2, 64)))


@pytest.mark.usefixtures("labelled")
def test_a_probe_that_the_checkpoint_lacks_begins_anew(tmp_path: Path) -> None:
    """Where the images had no labels to ask about until here."""
    with pytest.raises(RunStopped):
        train(tmp_path, stop_at=5)
    probe = OnlineProbe(CLASSES, 1e-2)
    _, recorder = train(tmp_path, probe=probe, resume=True)
    assert [notice.text for notice in recorder.of(Notice)] == [
        "the checkpoint has no online linear probe: it begins here"
    ]
    assert probe.state()["tensors"]["taken"] == 10


class Recorded(OnlineProbe):
    """Keeps what it was given."""

    def learn(self, features: Tensor, labels: Tensor, *, unless: Tensor | None = None) -> None:
        self.features, self.labels = features, labels


def backbone() -> nn.Module:
    """Without anything that depends on the batch, so that features can be computed again."""
    torch.manual_seed(1)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten())


def methods() -> dict[str, Any]:
    def projector() -> nn.Module:
        return nn.Linear(16, 8, bias=False)

    return {
        "a view at a time": BarlowTwins(backbone(), projector()),
        "small views first seen last": BarlowTwins(backbone(), projector(), small=2),
        "both views in one call": SimCLR(backbone(), projector()),
        "views of one size in one call": SwAV(backbone(), projector(), width=8, prototypes=5),
    }


@pytest.mark.parametrize("micro_batch", [0, 4])
@pytest.mark.parametrize("name", methods())
def test_it_learns_from_the_first_view_of_every_image(name: str, micro_batch: int) -> None:
    """However a method calls its backbone, and from the first of the two passes over micro-batches alone."""
    method = methods()[name]
    random = torch.Generator().manual_seed(2)
    sides = (8, 8, 6, 6) if "small" in name else (8, 8)
    views = [torch.randint(0, 256, (10, side, side, 1), dtype=torch.uint8, generator=random) for side in sides]
    optimizer = torch.optim.SGD(method.parameters(), lr=0.1)
    with torch.no_grad():
        expected = method.backbone(to_input(views[0]))
    probe = Recorded(CLASSES, 0.1)
    device = torch.device("cpu")
    step = TrainingStep(
        method, optimizer, to_input=to_input, device=device, precision="fp32", micro_batch=micro_batch, probe=probe
    )
    labels = torch.arange(10) % CLASSES
    targets: Targets = step.targets(labels, torch.arange(10), (10,), 0.0)
    step.update(step.compute(views, targets))
    torch.testing.assert_close(probe.features, expected, rtol=1e-5, atol=1e-6)
    assert not probe.features.requires_grad
    assert torch.equal(probe.labels, labels)
