"""Timed steps have the pixels of every view, each at its own size; a method refuses views that it does not compare."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from barlowctl import waits
from barlowctl.assemble.data import view_specs
from barlowctl.assemble.model import build_method, move_to_device, preprocessing_of
from barlowctl.assemble.plan import footprint, measure_rate
from barlowctl.assemble.resolve import resolve
from barlowctl.assemble.synthetic_steps import StepTime, SyntheticSteps, batch_of_pixels, forward_flops
from barlowctl.cli.app import run as barlowctl
from barlowctl.data.views.spec import ViewSpec
from barlowctl.errors import UserError
from barlowctl.kernels.batch_norm import threads as norm_threads
from barlowctl.methods import BarlowTwins, Targets
from barlowctl.recipe import load, objectives
from barlowctl.threads import one_thread
from barlowctl.train import lars_kernels
from barlowctl.train.lars import LARS

CPU = torch.device("cpu")
NARROW = ["model.backbone=resnet10t", "model.backbone_args={channels=[4,8,8,8], stem_width=4}", "model.projector=[8]"]
SIZES = ["views.size=32", "eval.resize=32", "eval.crop=32", "train.batch_size=4"]
SMALL = ["views.small.count=3", "views.small.size=16"]


class Mean(BarlowTwins):
    """The pair of the first two views; the others are embedded beside them. It notes what it was shown."""

    views = 5
    seen: list[tuple[int, ...]] = []  # noqa: RUF012

    def embeddings(self, views):
        type(self).seen = [tuple(view.shape) for view in views]
        return [self.projector(self.backbone(view)) for view in views]

    def compare(self, embeddings, targets: Targets):
        return super().compare(embeddings[:2], targets)


@pytest.fixture
def method() -> Mean:
    backbone = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten())
    return Mean(backbone, nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6)))


def test_the_specs_are_the_views_of_the_list() -> None:
    recipe = load.load("quickstart", [*SIZES, *SMALL, "views.interpolation=bilinear", "views.second.solarize=0.3"])
    first, second, *small = view_specs(recipe)
    assert [first, second] == view_specs(load.override(recipe, ["views.small.count=0"]))
    assert isinstance(second, ViewSpec)
    assert (second.size, second.solarize, second.interpolation) == (32, 0.3, "bilinear")
    assert small == [ViewSpec(16, "bilinear", crop_scale=(0.05, 0.14), blur=0.5)] * 3


def test_a_timed_step_and_its_memory_are_those_of_all_views(method: Mean, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = load.load("quickstart", [*NARROW, *SIZES, *SMALL])
    synthetic_steps = SyntheticSteps(preprocessing_of(recipe), method, CPU, 4, sizes=recipe.sizes)
    synthetic_steps.take("fp32")
    expected = [(4, 1, size, size) for size in (32, 32, 16, 16, 16)]
    assert method.seen == expected
    monkeypatch.setattr(objectives.BarlowTwins, "small_views", True)
    method.seen.clear()
    memory = footprint(resolve(recipe, CPU, 1, 10_000), method, "fp32")
    assert method.seen == expected
    assert memory.activations > 0


@pytest.mark.parametrize("micro_batch", [0, 8, 64])
def test_of_a_part_of_a_batch_the_optimizers_time_counts_once(
    micro_batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Muon's products of a projector's matrices took longer than 16 images: a run seemed twice as long as it was."""
    changes = [*NARROW, "views.size=224", "train.batch_size=64", f"train.micro_batch={micro_batch}"]
    recipe = load.load("quickstart", changes)
    passes: list[int] = []

    def take(self: SyntheticSteps, precision: str) -> StepTime:
        rows = len(self.pixels[0])
        passes.append(min(self.micro_batch or rows, rows))
        return StepTime(0.25 * rows, 3.0)

    monkeypatch.setattr(SyntheticSteps, "take", take)
    rate, how = measure_rate(resolve(recipe, CPU, 1, 10_000), build_method(recipe), "fp32")
    assert rate == pytest.approx(64 / (0.25 * 64 + 3.0))
    assert "of 16 images" in how
    assert set(passes) == {8 if micro_batch == 8 else 16}


@pytest.mark.parametrize(("of_an_image", "count"), [(0.1, 3), (0.5, 2), (1.5, 1)])
def test_of_steps_that_take_long_fewer_are_timed_and_that_is_said(
    of_an_image: float, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A method with wide embeddings and thousands of negatives took minutes for each of three, without a word."""
    recipe = load.load("quickstart", [*NARROW, "views.size=224", "train.batch_size=64"])
    taken, texts, given = list[int](), list[str](), threading.Event()

    def take(self: SyntheticSteps, precision: str) -> StepTime:
        assert taken or given.wait(10.0)
        taken.append(len(self.pixels[0]))
        return StepTime(of_an_image * 16, 0.0)

    monkeypatch.setattr(SyntheticSteps, "take", take)
    monkeypatch.setattr(waits, "SECONDS", 0.01)

    def listener(text: str) -> None:
        texts.append(text)
        given.set()

    waits.listen(listener)
    try:
        rate, how = measure_rate(resolve(recipe, CPU, 1, 10_000), build_method(recipe), "fp32")
    finally:
        waits.listen(None)
    assert rate == pytest.approx(1 / of_an_image)
    assert taken == [16] * count
    assert f"{max(1, count - 1)} step{'s' * (count > 2)} of 16 images" in how
    assert texts == ["timing steps of 16 images, of which the first also takes memory and chooses kernels ..."]


def test_a_step_is_timed_in_its_two_parts(method: Mean, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter((10.0, 12.0, 15.0))
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    recipe = load.load("quickstart", [*NARROW, *SIZES, *SMALL])
    optimizer = torch.optim.SGD(method.parameters(), lr=0.1)
    steps = SyntheticSteps(preprocessing_of(recipe), method, CPU, 4, optimizer, sizes=recipe.sizes)
    assert steps.take("fp32") == (2.0, 3.0)


@pytest.mark.parametrize(("pixels", "batch"), [(32 * 32 * 100, 64), (32 * 32 * 8, 8), (1, 2)])
def test_the_pixels_of_a_batch_are_counted_over_all_views(pixels: int, batch: int) -> None:
    two = load.load("quickstart", ["views.size=32", "eval.resize=32", "eval.crop=32", "train.batch_size=64"])
    assert batch_of_pixels(two, pixels) == batch
    eight = load.override(two, ["views.small.count=8", "views.small.size=16"])  # as many pixels again
    assert batch_of_pixels(eight, 2 * pixels) == batch


def test_vicreg_refuses_more_than_two_views(capsys: pytest.CaptureFixture[str]) -> None:
    changes = [*NARROW, *SIZES, *SMALL, "objective.name=vicreg"]
    recipe = load.load("quickstart", changes)
    for refused in (lambda: build_method(recipe), lambda: resolve(recipe, CPU, 1, 10_000)):
        with pytest.raises(UserError, match=r"takes 2 views of each image, and with views\.small\.count = 3") as caught:
            refused()
        assert caught.value.next == "--set views.small.count=0"
    resolve(load.override(recipe, ["views.small.count=0"]), CPU, 1, 10_000)
    words = [word for change in changes for word in ("--set", change)]
    assert barlowctl(["pretrain", "--recipe", "quickstart", *words, "--dry-run"]) == 2
    assert "next: barlowctl pretrain --recipe quickstart" in capsys.readouterr().err


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_what_is_compiled_once_and_for_ever_is_no_part_of_a_timed_step(
    precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else fp32 seems twenty times as fast as bf16 in the first run after an installation."""
    recipe = load.load("quickstart", [*NARROW, *SIZES])
    method = move_to_device(build_method(recipe), recipe, CPU)
    steps = SyntheticSteps(preprocessing_of(recipe), method, CPU, 4, sizes=recipe.sizes)
    order: list[str] = []

    def noting(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def noted(*arguments: Any) -> Any:
            order.append(name)
            if name == "clock":
                compiled.append([len(kernel.signatures) for kernel in kernels])
            return call(*arguments)

        return noted

    compiled, kernels = list[list[int]](), (norm_threads.normalize, norm_threads.differentiate)
    for kernel in kernels:
        monkeypatch.setattr(norm_threads, kernel.__name__, noting(kernel.__name__, kernel))
    monkeypatch.setattr(time, "process_time", noting("clock", time.process_time))
    with one_thread():
        steps.cpu_seconds(precision)
    assert order[-1] == "clock"
    assert order[:4] == ["normalize", "differentiate", "clock", "normalize"]
    assert order.count("normalize") > 10
    assert compiled[0] == compiled[-1]  # nothing was left to compile


def test_what_lars_is_made_of_is_compiled_before_its_steps_are_timed(
    method: Mean, monkeypatch: pytest.MonkeyPatch
) -> None:
    optimizer = LARS(method.parameters(), lr=0.1)
    recipe = load.load("quickstart", [*NARROW, *SIZES, *SMALL])
    steps = SyntheticSteps(preprocessing_of(recipe), method, CPU, 4, optimizer, sizes=recipe.sizes)
    order, compiled = list[str](), list[int]()

    def noting(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def noted(*arguments: Any) -> Any:
            order.append(name)
            compiled.append(len(kernel.signatures))
            return call(*arguments)

        return noted

    kernel = lars_kernels.step
    monkeypatch.setattr(lars_kernels, "step", noting("step", kernel))
    monkeypatch.setattr(time, "perf_counter", noting("clock", time.perf_counter))
    with one_thread():
        steps.take("fp32")
    assert order[:2] == ["step", "clock"]
    assert order.count("step") == 2
    assert compiled[1] == compiled[-1] > 0  # nothing was left to compile


def test_operations_of_a_network_whose_blocks_pass_its_own_parameters_on() -> None:
    """PiT's class token: torch's counter looked for its gradient, which there is not."""
    sizes = ["views.size=224", "eval.resize=224", "eval.crop=224"]
    network = ["model.backbone=pit_ti_224", "model.backbone_args={}", "model.stem=default"]
    assert forward_flops(load.load("quickstart", [*sizes, *network])) > 1e9
