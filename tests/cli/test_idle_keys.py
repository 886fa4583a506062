"""Keys that change nothing, typed to commands, to functions and into a grid; and those that a file has."""

from __future__ import annotations

from pathlib import Path

import pytest

import barlowctl
from barlowctl.cli.app import run as command
from barlowctl.errors import UserError

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
