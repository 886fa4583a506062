"""What is given to --resume and is no run leads to the command that was meant."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from barlowctl.cli.app import run as barlowctl

Captured = pytest.CaptureFixture[str]


@pytest.mark.parametrize(
    ("name", "message", "following"),
    [
        ("runs/a/recipe.toml", "'runs/a/recipe.toml' lies in the run 'runs/a'", "pretrain --resume runs/a --threads 1"),
        ("runs/a/checkpoints", "'runs/a/checkpoints' lies in the run 'runs/a'", "pretrain --resume runs/a --threads 1"),
        ("quickstart", "'quickstart' is a recipe", "pretrain --recipe quickstart"),
        ("mine.toml", "'mine.toml' is a recipe", "pretrain --recipe mine.toml"),
        ("none.toml", "'none.toml' is not a run", "runs list"),
    ],
)
def test_what_is_resumed_is_a_run(
    name: str,
    message: str,
    following: str,
    trained: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Captured,
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(trained, "runs/a")
    shutil.copy("runs/a/recipe.toml", "mine.toml")
    assert barlowctl(["pretrain", "--resume", name, "--threads", "1"]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.splitlines()[-1] == f"next: barlowctl {following}"


def test_what_lies_in_a_run_is_shown_with_it(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(trained, "runs/a")
    assert barlowctl(["runs", "show", "runs/a/metrics.jsonl"]) == 2
    assert capsys.readouterr().err.endswith("next: barlowctl runs show runs/a\n")
