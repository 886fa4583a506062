"""The precision of a CPU as a user meets it: said, kept on resume, and without a trace in the numbers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from barlowctl import processor
from barlowctl.assemble import precision
from barlowctl.assemble.precision import Precision
from barlowctl.cli.app import run as barlowctl

Captured = pytest.CaptureFixture[str]
SHORT = ("--set", "train.epochs=2", "--set", "eval.every_epochs=0", "--threads", "1")


@pytest.fixture(autouse=True)
def _multiplies_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever this machine can: where it emulates bf16, nothing would be measured."""
    monkeypatch.setattr(processor, "multiplies_bf16", lambda: True)


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is measured, from now on: the answers of the machine, one after another."""
    answers: list[str] = []
    faster = precision.faster

    def known(requested: str, seconds: Any, of: str) -> Precision:
        choice = faster(requested, seconds, of)  # steps are taken as ever
        return Precision(requested, answers.pop(0), choice.why)

    monkeypatch.setattr(precision, "faster", known)
    return answers


def losses(run: Path) -> list[float]:
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [record["loss"] for record in records if record["event"] == "step"]


def test_measuring_leaves_no_trace_in_the_numbers(
    recipe: Path, tmp_path: Path, measured: list[str], capsys: Captured
) -> None:
    """fp32 chosen by measuring, with dropped paths in the network, against fp32 by the recipe."""
    dropping = "model.backbone_args={channels = [8, 16, 16, 32], stem_width = 8, drop_path_rate = 0.3}"
    base = ["pretrain", "--recipe", str(recipe), *SHORT, "--set", dropping]
    measured.append("fp32")
    assert barlowctl([*base, "--set", "train.precision=bf16", "--out", "measured"]) == 0
    output = capsys.readouterr().out
    assert "fp32 " in output
    assert "on this CPU" in output
    assert measured == []
    assert barlowctl([*base, "--out", "forced"]) == 0  # a recipe in fp32 measures nothing: no answer is left
    assert losses(tmp_path / "measured") == losses(tmp_path / "forced")
    about = json.loads((tmp_path / "measured" / "run.json").read_text())["precision"]
    assert (about["asked"], about["used"], about["device"]) == ("bf16", "fp32", "cpu")


@pytest.mark.parametrize(
    ("requested", "used"),
    [("fp16", "bf16"), *(pytest.param(*pair, marks=pytest.mark.slow) for pair in (("bf16", "bf16"), ("fp16", "fp32")))],
)
def test_a_resumed_run_keeps_the_choice(
    recipe: Path, tmp_path: Path, measured: list[str], capsys: Captured, monkeypatch: pytest.MonkeyPatch,
    requested: str, used: str,
) -> None:  # fmt: skip
    """Stopped after an epoch and gone on with, where the machine would now answer otherwise."""
    from barlowctl.train import engine

    base = ["pretrain", "--recipe", str(recipe), *SHORT, "--set", f"train.precision={requested}"]
    measured += [used, used]
    assert barlowctl([*base, "--out", "whole"]) == 0
    train = engine.train
    monkeypatch.setattr(engine, "train", lambda *args, **options: train(*args, **{**options, "stop": stop_at(7)}))
    assert barlowctl([*base, "--out", "parts"]) == 3
    monkeypatch.setattr(engine, "train", train)
    capsys.readouterr()
    assert measured == []
    resume = ["pretrain", "--resume", "parts", "--threads", "1"]
    assert barlowctl([*resume, "--dry-run", "--json"]) == 0
    planned = json.loads(capsys.readouterr().out)["facts"]["device"]
    assert planned.startswith(f"cpu, 1 thread, {used} ")
    assert planned.endswith("when the run began")
    assert barlowctl(resume) == 0
    output = capsys.readouterr().out
    assert f"cpu, 1 thread, {used} " in output
    assert "when the run began" in output
    assert "until here" not in output
    assert losses(tmp_path / "parts") == losses(tmp_path / "whole")


def stop_at(step: int) -> Any:
    calls = iter(range(1000))
    return lambda: next(calls) >= step


def test_a_dry_run_says_it_too_and_plans_with_it(recipe: Path, measured: list[str], capsys: Captured) -> None:
    measured.append("fp32")
    command = ["pretrain", "--recipe", str(recipe), "--threads", "1", "--set", "train.precision=fp16", "--dry-run"]
    assert barlowctl([*command, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["facts"]["device"].startswith("cpu, 1 thread, fp32 ")
    assert measured == []


@pytest.mark.slow
def test_the_cells_of_a_study_compute_in_one_precision(recipe: Path, tmp_path: Path, measured: list[str]) -> None:
    measured.append("fp32")  # one answer for two cells
    variants = ("--loss", "--only", "baseline,only-invariance")
    command = ["ablate", *variants, "--recipe", str(recipe), *SHORT, "--set", "train.precision=bf16", "--out", "study"]
    assert barlowctl([*command, "--set", "data.holdout=0", "--set", "eval.queries=off", "--quiet"]) == 0
    runs = [json.loads(file.read_text())["precision"] for file in (tmp_path / "study").glob("cells/*/*/run.json")]
    assert [(run["asked"], run["used"]) for run in runs] == [("bf16", "fp32")] * 2
    assert all(run["why"].endswith("for the whole study") for run in runs)
