"""What a dry run of a study times: dear steps at a few images, quick ones at their batch."""

from __future__ import annotations

import pytest
import torch

from barlowctl.assemble.machine import Runtime
from barlowctl.assemble.resolve import resolve
from barlowctl.assemble.synthetic_steps import StepTime
from barlowctl.recipe import load
from barlowctl.study import estimate


def timed(
    monkeypatch: pytest.MonkeyPatch, recipe: str, change: str, *, an_image: float, update: float
) -> tuple[list[int], float, str]:
    """The batches that are timed for the recipe with one change, and the seconds of its step."""
    base, device = load.load(recipe), torch.device("cpu")
    own, varied = (resolve(one, device, 1, 10_000, None) for one in (base, load.override(base, [change])))
    batches: list[int] = []

    def take(self: object, resolved: object, batch: int) -> StepTime:
        batches.append(batch)
        return StepTime(an_image * batch, update)

    monkeypatch.setattr(estimate._Stopwatch, "_time", take)
    seconds, source = estimate._Stopwatch(own, Runtime(), None).step(varied)
    return batches, seconds, source


def test_a_dear_step_is_scaled_from_sixteen_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of ResNet-50 at 224 pixels and batch 2048; 64 images of it took minutes on a CPU. Its optimizer works once."""
    batches, seconds, source = timed(monkeypatch, "resnet50-300ep", "objective.lambd=0.02", an_image=0.5, update=3.0)
    assert batches == [16]
    assert seconds == pytest.approx(0.5 * 2048 + 3)
    assert "scaled" in source


def test_a_quick_step_is_timed_at_its_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    batches, seconds, source = timed(monkeypatch, "quickstart", "train.batch_size=128", an_image=0.001, update=0.01)
    assert batches == [load.load("quickstart").train.batch_size, 128]
    assert seconds == pytest.approx(0.138)
    assert "timed at its batch" in source
