"""What a CPU computes in: the faster one, measured, kept by the run and shared by a study; nothing else moves."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from barlowctl import processor, waits
from barlowctl.assemble import precision
from barlowctl.assemble.precision import Precision
from barlowctl.recipe import load
from barlowctl.recipe.schema import Recipe

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.fixture(autouse=True)
def _multiplies_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever this machine can: where it emulates bf16, nothing would be measured."""
    monkeypatch.setattr(processor, "multiplies_bf16", lambda: True)


@pytest.fixture
def tiny() -> Recipe:
    return load.load(
        "quickstart",
        [
            "model.backbone=resnet10t",
            "model.backbone_args={channels = [4, 8, 8, 8], stem_width = 4, drop_path_rate = 0.2}",
            "model.projector=[16, 16]",
            "train.batch_size=16",
        ],
    )


def clock(fp32: list[float], bf16: list[float]) -> Callable[[str], float]:
    """Seconds of steps from lists; the first of each is what the first step costs."""
    left = {"fp32": list(fp32), "bf16": list(bf16)}
    return lambda name: left[name].pop(0)


@pytest.mark.parametrize(
    ("requested", "fp32", "bf16", "used", "says"),
    [
        ("bf16", 0.069, 0.05, "bf16", "as the recipe asks: 1.38 times fp32's speed"),
        ("bf16", 0.05, 0.06, "fp32", "instead of the recipe's bf16: 1.20 times bf16's speed"),
        ("fp16", 0.09, 0.03, "bf16", "instead of the recipe's fp16: 3.00 times fp32's speed"),
        ("fp16", 0.03, 0.09, "fp32", "instead of the recipe's fp16: 3.00 times bf16's speed"),
        ("bf16", 0.05, 0.051, "bf16", "as the recipe asks: 0.98 times fp32's speed on this CPU (a diff"),
        ("fp16", 0.051, 0.05, "fp32", "instead of the recipe's fp16: 0.98 times bf16's speed on this CPU (a diff"),
    ],
)
def test_the_faster_one_is_chosen_and_by_how_much_is_said(
    requested: str, fp32: float, bf16: float, used: str, says: str
) -> None:
    """Medians: neither a slow first step nor one that was disturbed counts."""
    choice = precision.faster(requested, clock([1.0, fp32, 0.7, fp32], [0.0, bf16, bf16, 0.01]), "steps")
    assert (choice.requested, choice.used) == (requested, used)
    assert choice.why.startswith(says)
    assert ("noise" in choice.why) == ("(a diff" in says)


def test_a_clear_ratio_is_measured_in_one_round() -> None:
    choice = precision.faster("fp16", clock([0.9, 0.32], [0.2, 0.2]), "steps")
    assert (choice.used, "1.60 times fp32's speed" in choice.why, "2 x 1 steps" in choice.why) == ("bf16", True, True)


def test_costly_steps_are_measured_in_two_rounds_if_the_first_is_not_clear() -> None:
    choice = precision.faster("fp16", clock([4.0, 2.0], [2.8, 2.2]), "steps")
    assert (choice.used, "1.20 times fp32's speed" in choice.why, "2 x 2 steps" in choice.why) == ("bf16", True, True)
    choice = precision.faster("bf16", clock([30.0], [15.0]), "steps")
    says = "as the recipe asks: 2.00 times fp32's speed on this CPU, measured in 2 x 1 steps"
    assert choice == Precision("bf16", "bf16", says)


@pytest.mark.parametrize("requested", ["fp32", "bf16", "fp16"])
def test_nothing_is_measured_on_a_gpu_nor_where_the_recipe_asks_for_fp32(requested: str, tiny: Recipe) -> None:
    recipe = load.override(tiny, [f"train.precision={requested}"])
    assert precision.of_run(recipe, GPU) == Precision(requested, requested)
    earlier = Precision(requested, "fp32", "as when the run began")
    assert precision.of_run(recipe, CPU, earlier=earlier) == (
        Precision("fp32", "fp32") if requested == "fp32" else earlier
    )


@pytest.mark.parametrize("requested", ["bf16", "fp16"])
def test_nothing_is_measured_on_a_cpu_that_emulates_bf16(
    requested: str, tiny: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processor, "multiplies_bf16", lambda: False)
    monkeypatch.setattr(processor, "flags", lambda: frozenset({"avx2", "avx512f"}))
    recipe, measured = load.override(tiny, [f"train.precision={requested}"]), Precision(requested, "bf16", "measured")
    monkeypatch.setattr(precision, "faster", lambda *_: measured)
    choice = precision.of_run(recipe, CPU)
    assert (choice.requested, choice.used) == (requested, "fp32")
    assert choice.why.startswith(f"instead of the recipe's {requested}: ")
    assert "no instructions for bf16 (amx_bf16, avx512_bf16, bf16)" in choice.why
    assert precision.of_run(recipe, CPU, earlier=measured) == measured, "a run goes on as it began"
    monkeypatch.setattr(processor, "flags", frozenset)  # a system that does not tell
    assert precision.of_run(recipe, CPU) == measured


def test_measuring_takes_steps_of_the_recipes_network_and_leaves_everything_as_it_was(
    tiny: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[tuple[str, int, int, int]] = []
    take = precision.SyntheticSteps.take

    def step(self: Any, name: str) -> Any:
        weights = sum(p.numel() for p in self.method.parameters())
        steps.append((name, len(self.pixels[0]), weights, torch.get_num_threads()))
        return take(self, name)

    monkeypatch.setattr(precision.SyntheticSteps, "take", step)
    torch.set_num_threads(2)
    torch.manual_seed(11)
    before = torch.get_rng_state()
    choice = precision.of_run(tiny, CPU, ranks=2)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.get_num_threads() == 2
    weights = sum(p.numel() for p in precision.build_method(tiny).parameters())
    assert set(steps) == {("fp32", 8, weights, 1), ("bf16", 8, weights, 1)}  # a rank's share of 16
    assert len(steps) in (4, 6, 8)  # as many rounds as make it clear, at most three, after one of warm-up
    assert f"2 x {len(steps) // 2 - 1} steps of 8 images" in choice.why
    micro = precision.of_run(load.override(tiny, ["train.micro_batch=4"]), CPU)
    assert "steps of 4 images" in micro.why


def test_a_run_of_before_kept_its_precision_in_its_first_lines(tmp_path: Path) -> None:
    def precision_of(about: dict[str, Any]) -> Precision | None:
        (tmp_path / "run.json").write_text(json.dumps(about))
        return precision.recorded_by(tmp_path)

    assert precision.recorded_by(tmp_path) is None
    began = "as when the run began"
    assert precision_of({"facts": {"device": "cpu, 1 thread, bf16"}}) == Precision("bf16", "bf16", began)
    slower = "cpu, 2 threads, fp32 (the recipe's fp16 is slower on this CPU)"
    assert precision_of({"facts": {"device": slower}}) == Precision("fp16", "fp32", began)
    assert precision_of({"facts": {"device": "NVIDIA H100, fp16"}}) is None
    assert precision_of({}) is None
    record = precision.record(Precision("bf16", "fp32", "instead: 1.2x bf16"), CPU)
    assert precision_of({"precision": record}) == Precision(
        "bf16", "fp32", "instead: 1.2x bf16; chosen when the run began"
    )
    assert precision_of({"precision": {**record, "device": "cuda"}}) is None


def test_a_run_that_moves_to_a_cpu_keeps_what_was_chosen_there(tmp_path: Path) -> None:
    gpu = precision.record(Precision("fp16", "fp16"), GPU)
    (tmp_path / "run.json").write_text(json.dumps({"precision": gpu, "data": {"images": 3}}))
    precision.keep(tmp_path, Precision("fp16", "fp16"), GPU)
    assert precision.recorded_by(tmp_path) is None
    precision.keep(tmp_path, Precision("fp16", "bf16", "so"), CPU)
    assert precision.recorded_by(tmp_path) == Precision("fp16", "bf16", "so; chosen when the run began")
    assert json.loads((tmp_path / "run.json").read_text())["data"] == {"images": 3}
    precision.keep(tmp_path, Precision("fp16", "fp32", "other"), CPU)
    assert precision.recorded_by(tmp_path) == Precision("fp16", "bf16", "so; chosen when the run began")


def test_a_study_chooses_once_or_as_its_earlier_runs_did(
    tiny: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = [Precision("bf16", "fp32", "measured"), Precision("bf16", "bf16", "measured")]
    monkeypatch.setattr(precision, "faster", lambda requested, seconds, of: answers.pop(0))
    first = precision.shared(tmp_path / "new", tiny, CPU)
    assert first == Precision("bf16", "fp32", "measured, for the whole study")
    assert precision.shared(tmp_path / "new", load.override(tiny, ["train.batch_size=8"]), CPU) == first
    assert len(answers) == 1
    assert precision.shared(tmp_path / "new", load.override(tiny, ["train.precision=fp32"]), CPU) is None
    assert precision.shared(tmp_path / "new", tiny, GPU) is None
    cell = tmp_path / "old" / "cells" / "baseline-1" / "seed-0"
    cell.mkdir(parents=True)
    (cell / "run.json").write_text(json.dumps({"facts": {"device": "cpu, 1 thread, bf16"}}))
    old = precision.shared(tmp_path / "old", tiny, CPU)
    assert old == Precision("bf16", "bf16", "as when the run began, for the whole study")


def test_timing_steps_is_a_wait_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    texts, given = list[str](), threading.Event()
    monkeypatch.setattr(processor, "flags", frozenset)
    monkeypatch.setattr(waits, "SECONDS", 1e-3)
    monkeypatch.setattr(waits, "_listener", lambda text: (texts.append(text), given.set()))

    def slow() -> Precision:
        assert given.wait(10.0)
        return Precision("bf16", "bf16")

    assert precision.choose("bf16", CPU, slow).used == "bf16"
    assert texts == ["timing steps in bf16 and in fp32, to compute in the faster ..."]
