"""What must hold on a CUDA device as on a CPU. Skipped, with the reason, where there is none."""

from __future__ import annotations

import pytest
import torch

from barlowctl.methods import BarlowTwins
from barlowctl.objective import barlow_twins_loss
from tests.train.test_engine import SETTINGS, Loader, Recorder, to_input

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("form", ["primal", "gram"])
@pytest.mark.parametrize("shape", [(64, 256), (256, 64)])
def test_the_loss_and_its_gradient_are_those_of_the_cpu(form: str, shape: tuple[int, int]) -> None:
    torch.backends.cuda.matmul.allow_tf32 = False
    values = []
    for device in ("cpu", "cuda"):
        generator = torch.Generator().manual_seed(0)
        z1, z2 = (torch.randn(shape, generator=generator).to(device).requires_grad_() for _ in range(2))
        loss = barlow_twins_loss(z1, z2, form=form).loss  # type: ignore[arg-type]
        loss.backward()
        assert z1.grad is not None
        values.append((loss.item(), z1.grad.cpu()))
    assert values[0][0] == pytest.approx(values[1][0], rel=1e-5)
    torch.testing.assert_close(values[0][1], values[1][1], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_the_engine_trains_and_releases_the_loaders_buffers(tmp_path: object, precision: str) -> None:
    from dataclasses import replace
    from pathlib import Path
    from typing import Any

    from barlowctl.train import engine
    from barlowctl.train.events import StepDone
    from barlowctl.train.optim import build_optimizer

    held: list[Any] = []

    class Holding(Loader):
        def epoch(self, epoch: int, *, start_batch: int = 0) -> Any:
            for batch in super().epoch(epoch, start_batch=start_batch):
                batch.hold = held.append  # type: ignore[method-assign]
                yield batch

    torch.manual_seed(3)
    backbone = torch.nn.Sequential(torch.nn.Conv2d(1, 8, 3), torch.nn.BatchNorm2d(8), torch.nn.Flatten())
    method = BarlowTwins(backbone, torch.nn.Sequential(torch.nn.Linear(128, 32)), lambd=0.01).to("cuda")
    optimizer = build_optimizer(method, "lars", lr=0.5, lr_biases=0.01, weight_decay=1e-3, eta=0.01)
    recorder = Recorder()
    result = engine.train(
        method,
        Holding(),
        optimizer,
        replace(SETTINGS, precision=precision),
        to_input=to_input,
        device=torch.device("cuda"),
        emit=recorder,
        checkpoints=Path(str(tmp_path)) / "checkpoints",
        recipe_digest="d",
    )
    assert len(held) == result["steps"] == SETTINGS.total_steps
    losses = [event.values["loss"] for event in recorder.of(StepDone)]
    assert sum(losses[-5:]) < sum(losses[:5])
