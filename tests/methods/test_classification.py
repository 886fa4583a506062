"""Classification on the one training loop: a plain torch loop is the oracle, frozen means every byte."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from barlowctl.errors import UserError
from barlowctl.eval.features import backbone_digest
from barlowctl.methods import Classifier
from barlowctl.train import engine
from barlowctl.train.schedule import epoch_drops

ROWS, STEPS, CLASSES = 12, 4, 3


@dataclass
class Batch:
    views: tuple[Tensor, ...]
    labels: Tensor
    indices: Tensor = field(default_factory=lambda: torch.arange(ROWS))

    def to(self, device: torch.device) -> tuple[Tensor, ...]:
        return tuple(view.to(device) for view in self.views)

    def hold(self, event: Any) -> None:
        raise AssertionError("nothing is copied on a CPU")


def batch(number: int) -> Batch:
    generator = torch.Generator().manual_seed(number)
    images = torch.randint(0, 256, (ROWS, 4, 4, 1), dtype=torch.uint8, generator=generator)
    return Batch((images,), torch.randint(0, CLASSES, (ROWS,), generator=generator))


class Loader:
    def epoch(self, epoch: int, *, start_batch: int = 0) -> Iterator[Batch]:
        reused = batch(0)  # one buffer for all batches, as the fast loader has it
        for number in range(start_batch, STEPS):
            new = batch(10 * epoch + number)
            reused.views[0].copy_(new.views[0])
            reused.labels.copy_(new.labels)
            yield reused


def to_input(view: Tensor) -> Tensor:
    return view.permute(0, 3, 1, 2).float() / 255


def make(*, frozen: bool) -> Classifier:
    torch.manual_seed(5)
    backbone = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten())
    return Classifier(backbone, width=16, num_classes=CLASSES, frozen=frozen)


def optimizer_of(method: Classifier) -> torch.optim.SGD:
    groups = [{"name": "head", "params": list(method.head.parameters()), "lr": 0.3, "peak_lr": 0.3}]
    if not method.frozen:
        groups.append({"name": "backbone", "params": list(method.backbone.parameters()), "lr": 0.02, "peak_lr": 0.02})
    return torch.optim.SGD(groups, lr=0.0, momentum=0.9, weight_decay=1e-3)


@pytest.mark.parametrize("frozen", [True, False])
def test_the_engine_trains_it_as_a_plain_loop_does(tmp_path: Path, frozen: bool) -> None:
    ours = make(frozen=frozen)
    before = backbone_digest(ours.backbone)
    settings = engine.Settings(
        epochs=3, steps_per_epoch=STEPS, warmup_epochs=0.0, final_lr_scale=0.0, precision="fp32", log_every_steps=1,
        checkpoint_every_epochs=1, keep_checkpoints=1, evaluate_every_epochs=0,
        lr_schedule=lambda step: epoch_drops(step // STEPS, drops=(1, 2), factor=0.2),
    )  # fmt: skip
    events: list[Any] = []
    result = engine.train(
        ours, Loader(), optimizer_of(ours), settings, to_input=to_input, device=torch.device("cpu"),
        emit=events.append, checkpoints=tmp_path, recipe_digest="d",
    )  # fmt: skip

    plain = make(frozen=frozen)
    optimizer = optimizer_of(plain)
    plain.train()
    for epoch in range(3):
        for group, lr in zip(optimizer.param_groups, (0.3, 0.02), strict=False):
            group["lr"] = lr * 0.2**epoch
        for number in range(STEPS):
            one = batch(10 * epoch + number)
            logits = plain.head(plain.backbone(to_input(one.views[0])))
            loss = nn.functional.cross_entropy(logits, one.labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    for (name, got), expected in zip(ours.state_dict().items(), plain.state_dict().values(), strict=True):
        torch.testing.assert_close(got, expected, msg=name)
    assert (backbone_digest(ours.backbone) == before) is frozen
    assert result["accuracy"] == pytest.approx(float((logits.argmax(1) == one.labels).float().mean()))
    assert "lr_head" in result


def test_the_classifier_starts_as_the_authors_does() -> None:
    torch.manual_seed(0)
    method = Classifier(nn.Flatten(), width=512, num_classes=100, frozen=False)
    assert method.head.weight.std().item() == pytest.approx(0.01, rel=0.02)
    assert not method.head.bias.any()


def test_what_it_refuses() -> None:
    method = make(frozen=True)
    with pytest.raises(UserError, match="1 view"):
        method([torch.zeros(2, 1, 4, 4)] * 2)
    with pytest.raises(UserError, match="1 class"):
        Classifier(nn.Flatten(), width=4, num_classes=1, frozen=True)
