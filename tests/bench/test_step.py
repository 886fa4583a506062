"""`bench step`: every row takes the same step; what is counted and what is said of it are right."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from barlowctl.assemble.model import build_method, preprocessing_of
from barlowctl.assemble.synthetic_steps import forward_flops
from barlowctl.bench import machine_peak, step, step_ablation, step_others, step_process, step_summary
from barlowctl.bench.benchmark_process import Measured
from barlowctl.bench.step_others import LoopLARS
from barlowctl.bench.step_ours import OurStep
from barlowctl.bench.step_settings import CHECKED, StepSettings
from barlowctl.bench.stopwatch import Over, Stopwatch
from barlowctl.cli.app import run as barlowctl
from barlowctl.errors import UserError
from barlowctl.model.cpu.fused_norm import FusedBatchNorm2d
from barlowctl.model.cpu.product_convolution import ProductConvolution
from barlowctl.recipe import load
from barlowctl.recipe.schema import Recipe
from tests.oracles import lars
from tests.oracles import loss as loss_oracle

CPU = torch.device("cpu")
TINY = (
    "model.backbone=resnet26",
    "model.backbone_args={layers=[1, 1, 1, 1], channels=[8, 8, 16, 16], stem_width=8}",
    "model.projector=[24, 24, 32]",
    "train.precision=fp32",
    "train.batch_size=16",
    "views.size=32",
)
Captured = pytest.CaptureFixture[str]


def channels_set(channels: int) -> list[str]:
    return [f"data.channels={channels}", f"views.mean={[0.4] * channels}", f"views.std={[0.2] * channels}"]


def sets(values: Sequence[str]) -> list[str]:
    return [part for value in values for part in ("--set", value)]


def tiny(*overrides: str) -> Recipe:
    return step.base_recipe(load.load("resnet50", [*TINY, *overrides]))


def settings_of(kind: str, *overrides: str, **values: Any) -> StepSettings:
    return StepSettings(kind, tiny(*overrides), CPU, threads=1, warmup=1, steps=2, **values)


@pytest.fixture(autouse=True)
def threads_stay() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


class Script:
    """A conversation whose questions are known beforehand."""

    def __init__(self, *questions: dict[str, Any]) -> None:
        self.questions, self.answers = list(questions), list[dict[str, Any]]()

    def ask(self) -> dict[str, Any] | None:
        return self.questions.pop(0) if self.questions else None

    def answer(self, values: dict[str, Any]) -> None:
        self.answers.append(dict(values))


# ---- all rows compute the same ---------------------------------------------------------------------------


def expected_loss() -> float:
    """From the formula, in float64, of the embeddings that our network makes."""
    recipe = tiny()
    method, to_input = build_method(recipe).double(), preprocessing_of(recipe).normalization()
    with torch.no_grad():
        z1, z2 = method.embeddings([to_input(view).double() for view in settings_of("ours").pixels(CHECKED)])
    return loss_oracle.loss(z1.numpy(), z2.numpy(), lambd=recipe.objective.lambd)


@pytest.mark.parametrize("kind", step.KINDS)
def test_all_rows_compute_the_same_loss_from_the_same_weights(kind: str) -> None:
    if not step_others.is_installed(kind):
        pytest.skip(f"{kind} is not installed")
    try:
        built = step_process.build(settings_of(kind))
    except ModuleNotFoundError as error:
        pytest.skip(str(error))
    shrunk = (CHECKED - 1) / CHECKED if kind == "stable-pretraining" else 1.0  # of C; see step.check_losses
    assert step_process.exact(built) == pytest.approx(expected_loss(), rel=1e-4 if shrunk == 1.0 else 2 * (1 - shrunk))


def test_all_rows_of_the_ablation_compute_the_same_loss() -> None:
    rows, left_out = step_ablation.choose_ablation(tiny(), CPU)
    assert "captured graph" in left_out
    assert "fp16" in left_out
    for row in rows:
        settings = replace(settings_of("ours"), recipe=row.recipe(tiny()), optimizer=row.optimizer, **row.of_a_cpu())
        assert step_process.build(settings).check() == pytest.approx(expected_loss(), rel=1e-4), row.name


def test_another_loss_is_refused_before_anything_is_timed() -> None:
    rows = [Measured("ours", ready={"loss": 24.0}), Measured("peak fp32", ready={"ready": True})]
    step.check_losses([*rows, Measured("authors", ready={"loss": 24.0001}), Measured("lightly", ready={"loss": 24.01})])
    with pytest.raises(UserError, match="'authors' computes another loss than 'ours': 25, not 24"):
        step.check_losses([*rows, Measured("authors", ready={"loss": 25.0})])


def test_the_first_images_are_the_same_at_every_batch() -> None:
    few, many = (settings_of("ours").pixels(count) for count in (2, 5))
    assert all(torch.equal(one, more[:2]) for one, more in zip(few, many, strict=True))
    assert not torch.equal(*few)


def test_lars_in_a_loop_is_lars() -> None:
    generator = np.random.default_rng(0)
    start, gradients = generator.normal(size=(3, 4)), [generator.normal(size=(3, 4)) for _ in range(3)]
    p = torch.nn.Parameter(torch.from_numpy(start.copy()))
    optimizer = LoopLARS([p], lr=0.5, weight_decay=0.1)
    for gradient in gradients:
        p.grad = torch.from_numpy(gradient.copy())
        optimizer.step()
    expected = lars.trajectory(start, gradients, lr=[0.5] * 3, weight_decay=0.1, momentum=0.9, eta=0.001)
    np.testing.assert_allclose(p.detach().numpy(), expected[-1], rtol=1e-10)


def test_a_projector_with_biases_takes_over_the_weights() -> None:
    method = build_method(tiny())
    theirs = step_others._projector_with_biases(16 * 4, 24, 32)
    step_others.copy_layers(method.projector, theirs)
    features = torch.randn(8, 16 * 4)
    torch.testing.assert_close(theirs(features), method.projector(features))


# ---- rounds ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "sets"),
    [
        ("ours", ()),
        ("ours", ("train.precision=bf16", "train.channels_last=false")),
        ("authors", ("train.channels_last=false",)),
    ],
)
def test_rounds_of_an_implementation(kind: str, sets: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """No checkpoint is written in the end: of the published network that is a gigabyte, for which all rows waited."""
    saved = list[Any]()
    monkeypatch.setattr("barlowctl.train.checkpoint.save", lambda *values, **named: saved.append(values))
    settings = settings_of(kind, *sets)
    script = Script(settings.to_json(), {"round": 0}, {"round": 1})
    step_process.serve(script)
    assert not saved
    ready, warm_up, measured = script.answers
    assert ready["loss"] == pytest.approx(expected_loss(), rel=1e-3)
    assert (warm_up["images"], warm_up["steps"]) == (16, 1)
    assert (measured["images"], measured["steps"]) == (32, 2)
    assert 0 < measured["waited"] < measured["seconds"]
    assert measured["cpu_seconds"] > 0
    assert measured["peak_bytes"] > 50e6


def test_a_watch_counts_what_it_says() -> None:
    script = Script({"round": 0}, {"round": 1}, {"round": 2})
    watch = Stopwatch(script, CPU, images=4, warmup=3, steps=5, children=False)
    for taken in range((3 + 1) + 2 * (3 + 5)):
        watch.before_step()
        if taken == 2:
            watch.note("not captured")
    with pytest.raises(Over):
        watch.before_step()
    assert [(one["images"], one["steps"]) for one in script.answers] == [(4, 1), (20, 5), (20, 5)]
    assert script.answers[-1]["notes"] == ["not captured"]


def test_batches_made_in_others_rounds_are_thrown_away() -> None:
    watch = Stopwatch(Script({"round": 1}, {"round": 2}), CPU, images=4, warmup=1, steps=2, children=False)
    batches = iter(range(100))
    assert [watch.next_batch(batches, ahead=3) for _ in range(2 * 3)] == [3, 4, 5, 9, 10, 11]


def test_the_peak_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine_peak, "SECONDS", 0.01)
    monkeypatch.setitem(machine_peak.SIZES, "cpu", machine_peak.Sizes(128, 2, 16, 8))
    script = Script(settings_of("peak").to_json(), {"round": 0}, {"round": 1})
    step_process.serve(script)
    _, _, rates = script.answers
    assert rates["best"] == max(rates["product"], rates["convolution"]) > 1e8
    sizes = machine_peak.Sizes(10, 2, 3, 4)
    assert (sizes.product_flops, sizes.convolution_flops) == (2000.0, 2 * 2 * 16 * 9 * 9)


# ---- what is counted -------------------------------------------------------------------------------------


def test_the_operations_of_a_resnet_are_those_of_its_layers() -> None:
    """ResNet-50 has 4.09e9 multiply-adds at 224 pixels, its classifier included (torchvision's table)."""
    recipe = load.load("resnet50", ["eval.resize=224"])
    projector = 2048 * 8192 + 2 * 8192**2
    assert forward_flops(recipe) / 4 - projector + 2048 * 1000 == pytest.approx(4.09e9, rel=2e-3)


def test_the_operations_of_a_transformer_are_those_of_its_formula() -> None:
    recipe = load.load("resnet50", ["model.backbone=vit_small_patch16_224", "model.projector=[512, 512]"])
    tokens, width = 197, 384
    block = 12 * tokens * width**2 + 2 * tokens**2 * width
    expected = 196 * width * 3 * 16**2 + 12 * block + width * 512 + 512**2
    assert forward_flops(recipe) / 4 == pytest.approx(expected, rel=1e-9)


# ---- rows and ratios -------------------------------------------------------------------------------------


def answers(*cpu: float) -> list[dict[str, Any]]:
    return [
        {"images": 32, "steps": 2, "seconds": 4.0, "cpu_seconds": one, "waited": 1.0, "peak_bytes": 3e6, "notes": []}
        for one in cpu
    ]


def test_ratios_are_of_cpu_time_round_by_round() -> None:
    ours = Measured("ours", ready={"loss": 1.0}, answers=answers(2.0, 2.0, 1.0))
    theirs = Measured("authors", ready={"loss": 1.0}, answers=answers(3.0, 4.0, 5.0))
    settings = {"ours": settings_of("ours"), "authors": settings_of("authors")}
    peaks = {"fp32": {"best": 1e9}}
    first, second = step_summary.summarize(
        [ours, theirs], settings, flops=1e6, peaks=peaks, against=step_summary.against_of([ours, theirs], False)
    )
    assert (second["ratio"], second["ratio_range"]) == (2.625, [1.5, 5.0])
    assert second["ratio_by_order"] == [3.25, 2.0]  # rounds 1 and 3, and round 2
    assert (first["ratio"], first["cpu_seconds"], first["images_per_second"]) == (1.0, 0.875, 8.0)
    assert (first["ms"], first["peak_mb"], first["n"], first["data_wait"]) == (2000.0, 3.0, 3, None)
    assert first["peak_share"] == 0.0183  # 16 images of 1e6 in 0.875 CPU-seconds, of 1e9


def test_a_row_of_the_ablation_is_compared_with_the_one_before_that_was_measured() -> None:
    rows = [
        Measured("channels_last", ready={"loss": 1.0}, answers=answers(4.0)),
        Measured("form chosen by size", ready={"loss": 1.0}, answers=answers(2.0)),
    ]
    against = step_summary.against_of(rows, True)
    assert against == {"channels_last": None, "form chosen by size": "channels_last"}
    settings = {one.name: settings_of("ours") for one in rows}
    summary = step_summary.summarize(rows, settings, flops=1e6, peaks={}, against=against)
    assert [row["ratio"] for row in summary] == [None, 2.0]


def test_each_row_of_the_ablation_changes_one_thing() -> None:
    by_name = {row.name: row for row in step_ablation.ABLATION}
    for row in step_ablation.ABLATION:
        if row.against is not None:
            below = by_name[row.against]
            changed = len(set(row.sets) ^ set(below.sets)) + (row.optimizer != below.optimizer)
            changed += len(set(row.ways) ^ set(below.ways))
            assert changed == 1, row.name


def test_as_they_come_and_the_same_as_ours() -> None:
    common = settings_of("ours", "train.precision=bf16")
    rows = {row.name: row.settings for row in step.rows_of(["ours", "lightly", "lightly-same"], common)}
    seen = {
        name: (one.recipe.train.precision, one.recipe.train.channels_last, one.optimizer) for name, one in rows.items()
    }
    assert seen == {
        "ours": ("bf16", True, "own"),
        "lightly": ("fp32", False, "documented"),
        "lightly-same": ("bf16", True, "LARS"),
    }
    on_gpu = step.rows_of(["authors"], replace(common, device=torch.device("cuda")))
    assert on_gpu[0].settings.recipe.train.precision == "fp16"


def test_settings_survive_the_way_to_the_process() -> None:
    settings = settings_of("lightly", optimizer="LARS")
    assert StepSettings.from_json(json.loads(json.dumps(settings.to_json()))) == settings


def test_a_row_that_fails_is_left_out_and_no_round_begins_too_late(monkeypatch: pytest.MonkeyPatch) -> None:
    class InProcess:
        """A benchmark process whose answers are known."""

        def __init__(self, name: str, module: str, settings: dict[str, Any], *, optional: bool, polls: bool) -> None:
            self.measured, self.optional = Measured(name, ready={"loss": 1.0}), optional
            if name.startswith("peak"):
                self.measured.ready = {"ready": True}

        def start(self) -> None: ...

        def run(self, number: int, *, keep: bool) -> None:
            if self.measured.name == "authors":
                raise UserError("the pipeline 'authors' failed: OutOfMemoryError")
            if keep:
                peak = {"product": 3e9, "convolution": 2e9, "best": 3e9}
                self.measured.answers += [peak] if "loss" not in self.measured.ready else answers(1.0)

        def close(self) -> None: ...

    monkeypatch.setattr(step, "BenchmarkProcess", InProcess)
    comparison = step.compare(tiny(), ["ours", "authors", "authors-same"], device=CPU, rounds=5, minutes=0.0)
    assert [(row["name"], row["n"], row["ratio"]) for row in comparison["rows"]] == [
        ("ours", 1, 1.0),
        ("authors-same", 1, 1.0),
    ]
    assert comparison["left_out"] == {"authors": "the pipeline 'authors' failed: OutOfMemoryError"}
    assert comparison["peak"] == {"fp32": {"product": 3e9, "convolution": 2e9, "best": 3e9}}
    with pytest.raises(UserError, match="no row could be measured; 'authors'"):
        step.compare(tiny(), ["authors"], device=CPU, rounds=5)


def test_a_missing_peer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(step, "is_installed", lambda kind: kind != "lightly")
    chosen, left_out = step.choose_rows([])
    assert chosen == [row for row in step.ROWS if not row.startswith("lightly")]
    assert left_out == dict.fromkeys(("lightly", "lightly-same"), "lightly is not installed")
    with pytest.raises(UserError, match="the row 'lightly-same' needs lightly, which is not installed") as refused:
        step.choose_rows(["ours", "lightly-same"])
    assert refused.value.allowed == f"{', '.join(chosen)}; others once pip has installed what they need"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--rows", "our"], "there is no row 'our', did you mean 'ours'?"),
        (["--rows", "our"], "next: barlowctl bench step --rows ours"),
        (["--widths", "8192by3"], "--widths is '8192by3'"),
        (["--widths", "8192x\u00b2"], "--widths is '8192x\u00b2'"),
        (["--precision", "fp16", "--device", "cpu"], "a CPU's fp16"),
        (["--precision", "half"], "allowed: fp32, bf16, fp16"),
        (["--backbone", "resnet5"], "no model named 'resnet5'"),
        (["--data", "nowhere"], "nowhere is not a folder"),
        (["--data", str(Path(__file__).parent)], "--data is what --loading loads"),
        (["--loading", "--data", "nowhere"], "nowhere is not a folder"),
        (["--loading", *sets(channels_set(2))], "reads JPEGs, and this recipe's images have 2 channels"),
        (["--ladder", "--rows", "ours"], "--ladder has its own rows"),
    ],
)
def test_bad_input(flags: list[str], message: str, capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the step's operations are counted, which takes seconds."""
    monkeypatch.setattr(step, "training_flops", None)
    assert barlowctl(["bench", "step", *flags]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize(
    "more", [[], ["--loading", "--samples", "32"], ["--loading", "--samples", "32", *sets(channels_set(1))]]
)
def test_rows_as_json(more: list[str], capsys: Captured, tmp_path: Path) -> None:
    flags = ["--rows", "ours,authors-same", "--rounds", "1", "--steps", "1", "--warmup", "1", "--batch", "16"]
    assert (
        barlowctl(
            ["bench", "step", "--backbone", "resnet26", "--size", "32", *sets(TINY[1:3]), *flags, *more, "--json"]
        )
        == 0
    )
    document = json.loads(capsys.readouterr().out)
    ours, theirs = document["rows"]
    assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-3)
    assert ours["n"] == theirs["n"] == 1
    assert theirs["ratio"] > 0
    assert document["peak"]["fp32"]["best"] > 1e9
    assert (ours["data_wait"] is not None) == bool(more)


@pytest.mark.parametrize("ours", [True, False])
def test_a_row_has_our_ways_or_torchs(ours: bool) -> None:
    settings = replace(settings_of("ours"), **dict.fromkeys(step_ablation.WAYS, ours))
    settings = StepSettings.from_json(json.loads(json.dumps(settings.to_json())))
    method = OurStep(settings).method
    kinds = {type(part) for part in method.modules()}
    assert (ProductConvolution in kinds, torch.nn.Conv2d in kinds) == (ours, not ours)
    assert (FusedBatchNorm2d in kinds, torch.nn.BatchNorm2d in kinds) == (ours, not ours)
    assert (method.one_pass is not None) == ours
