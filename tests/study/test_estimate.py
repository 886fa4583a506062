"""What a dry run of a study times: dear steps at a few images, quick ones at their batch."""

from __future__ import annotations

import pytest
import torch

from barlowctl.assemble.machine import Runtime
from barlowctl.assemble.resolve import resolve
from barlowctl.assemble.synthetic_steps import StepTime
from barlowctl.recipe import load
from barlowctl.recipe.schema import Recipe
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


def test_operations_are_counted_once_for_variants_that_have_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    base, device, counted = load.load("quickstart"), torch.device("cpu"), list[object]()

    def count(recipe: Recipe) -> float:
        counted.append((recipe.model.projector, recipe.train.batch_size, recipe.sizes))
        return float(len(counted))

    monkeypatch.setattr(estimate, "operations", count)
    stopwatch = estimate._Stopwatch(resolve(base, device, 1, 10_000, None), Runtime(), None)
    same = ["views.first.blur=0.25", "optimizer.lr=0.5", "seed=4"]
    assert [stopwatch._operations(load.override(base, [change])) for change in same] == [1.0] * 3
    other = ["model.projector=[8,8]", "train.batch_size=32", "views.size=24", "objective.name=simclr"]
    assert [stopwatch._operations(load.override(base, [change])) for change in other] == [2.0, 3.0, 4.0, 5.0]
    assert len(set(map(str, counted[:4]))) == 4
