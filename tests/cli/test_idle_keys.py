"""Keys that change nothing, typed to commands, to functions and into a grid; and those that a file has."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import barlowctl
from barlowctl.cli.app import run as command
from barlowctl.errors import UserError
from barlowctl.recipe import load
from barlowctl.recipe.idle import idle

Captured = pytest.CaptureFixture[str]


def test_commands_and_functions_refuse_it(recipe: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(recipe.parent)
    words = ["--recipe", str(recipe), "--set", "optimizer.eta=0.5", "--set", "optimizer.name=sgd"]
    refusal = "--set optimizer.eta=0.5 changes nothing: optimizer.name is 'sgd'"
    for name in (["pretrain"], ["ablate", "loss", "--dry-run"], ["data", "preview"]):
        assert command([*name, *words]) == 2
        assert refusal in capsys.readouterr().err
    with pytest.raises(UserError, match=r"'optimizer\.eta': 0\.5} changes nothing: optimizer\.name is 'sgd'"):
        barlowctl.pretrain(recipe, overrides={"optimizer.name": "sgd", "optimizer.eta": 0.5})
    Path("grid.toml").write_text('[a]\n[b]\n"train.milestones" = [1]\n')
    assert command(["ablate", "--grid", "grid.toml", "--recipe", str(recipe), "--dry-run"]) == 2
    error = capsys.readouterr().err
    assert "[b] of grid.toml: train.milestones changes nothing: train.schedule is 'cosine'" in error
    assert "next: correct [b] of grid.toml" in error


def test_the_first_lines_of_a_run_name_what_its_file_has(recipe: Path, capsys: Captured) -> None:
    recipe.write_text(recipe.read_text().replace('name = "adamw"', 'name = "adamw"\nmomentum = 0.8'))
    words = ["pretrain", "--recipe", str(recipe), "--dry-run", "--threads", "1"]
    assert command(words) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any("no effect" in line and "optimizer.momentum: optimizer.name is 'adamw'" in line for line in lines)


TIMED = ("per_second", "wait", "seconds")
OTHERS = {
    "milestones": "[1]", "betas": "[0.7, 0.8]", "crop_scale": "[0.5, 0.9]", "crop_ratio": "[0.9, 1.1]",
    "blur_sigma": "[0.3, 0.9]", "erase_scale": "[0.1, 0.2]", "lars_variant": "larc", "schedule_every": "epoch",
}  # fmt: skip


def another(key: str, value: Any) -> str | None:
    """A value that a key may have instead, where that is known."""
    if isinstance(value, bool):
        return str(not value).lower()
    if isinstance(value, (int, float)):
        return str(value + 1 if isinstance(value, int) else round(value / 2 + 0.05, 4))
    return OTHERS.get(key.rpartition(".")[2])


@pytest.mark.parametrize(
    "overrides",
    [
        ["optimizer.name=sgd", "train.schedule=constant"],
        ["optimizer.name=lars", "train.schedule=step", "train.milestones=[1]", "train.warmup_epochs=0"],
        ["optimizer.name=muon", "train.freeze=backbone"],
        [
            "views.first={jitter=0, grayscale=0, blur=0, solarize=0, erase=0}",
            "eval.linear=false",
            "eval.lidar_images=0",
        ],
        ["objective.name=supervised", "eval.queries=off"],
        ["eval.every_epochs=0", "views.small.count=0"],
    ],
    ids=["sgd", "lars", "muon", "views", "supervised", "evaluation"],
)
def test_what_is_called_idle_changes_nothing(overrides: list[str], recipe: Path, tmp_path: Path) -> None:
    """All such keys with other values at once: the same losses, evaluations and weights, to the bit."""
    few = ["train.epochs=2", "train.log_every_steps=1", "data.holdout=1100", *overrides]
    others: list[str] = []
    for entry in idle(load.load(str(recipe), few)):
        if (value := another(entry.key, entry.value)) is not None:
            with suppress(UserError):  # not every number is allowed
                load.load(str(recipe), [*few, *others, f"{entry.key}={value}"])
                others.append(f"{entry.key}={value}")
    assert len(others) > 5

    def trained(name: str, *more: str) -> tuple[list[dict[str, Any]], bytes]:
        barlowctl.pretrain(load.load(str(recipe), [*few, *more]), out=tmp_path / name, threads=1)
        lines = [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        exact = [{key: line[key] for key in line if not any(word in key for word in TIMED)} for line in lines]
        weights = max((tmp_path / name).glob("checkpoints/step-*/model.safetensors"))
        return exact, weights.read_bytes()

    expected = trained("as-it-is")
    assert trained("others", *others) == expected
    assert trained("other-rate", "optimizer.lr=1e-3") != expected
