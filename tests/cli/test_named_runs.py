"""A run is named by its directory or by its name in the runs home, wherever a run is taken; shells complete names."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from barlowctl.cli import completion
from barlowctl.cli.advice import completed
from barlowctl.cli.app import run as barlowctl
from tests.cli.tree import ROOT

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def home(trained: Path, recipe: Path, tmp_path: Path) -> Path:
    """A runs home with the finished run `first`, and `half`, which is not finished."""
    for name in ("first", "half"):
        shutil.copytree(trained, tmp_path / "runs" / name)
    (tmp_path / "runs" / "half" / "result.json").unlink()
    return tmp_path / "runs"


def document(capsys: Captured, *arguments: str) -> dict[str, Any]:
    assert barlowctl([*arguments, "--json", "--quiet"]) == 0, capsys.readouterr().err
    parsed: dict[str, Any] = json.loads(capsys.readouterr().out)
    return parsed


def test_every_command_that_takes_a_run_takes_its_name(home: Path, capsys: Captured) -> None:
    one = ("--threads", "1")
    assert document(capsys, "probe", "first", "--knn", *one)["run"] == str(home / "first")
    assert document(capsys, "transfer", "first", "--data", "digits", *one)["run"] == str(home / "first")
    assert document(capsys, "embed", "first", "--out", "x.npz", *one)["count"] == 1400  # the run's own images
    assert document(capsys, "export", "first")["path"] == str(home / "first" / "first-timm.safetensors")
    page = document(capsys, "report", "first", "half", "--no-previews", "--out", "r.html", *one)
    assert page["runs"] == [str(home / "first"), str(home / "half")]
    assert document(capsys, "runs", "show", "half")["path"] == str(home / "half")
    assert document(capsys, "pretrain", "--resume", "half", *one)["run"] == str(home / "half")
    assert (home / "half" / "result.json").is_file()


def test_a_finished_run_notes_when(home: Path) -> None:
    noted = json.loads((home / "first" / "result.json").read_text())["finished"]
    assert 0 <= time.time() - datetime.fromisoformat(noted).timestamp() < 3600


def test_a_run_without_its_recipe_has_its_name_too(home: Path, tmp_path: Path, capsys: Captured) -> None:
    (home / "first" / "recipe.toml").unlink()
    (tmp_path / "first").mkdir()  # no run, no export: it is not in the way
    for command in ("probe", "export"):
        assert barlowctl([command, "first"]) == 2
        assert capsys.readouterr().err.endswith(f"next: barlowctl runs restore {home / 'first'}\n")


def test_the_newest_finished_run_where_none_is_named(home: Path, capsys: Captured) -> None:
    result = document(capsys, "embed", "--data", "digits", "--split", "test", "--out", "y.npz", "--threads", "1")
    assert result["run"] == str(home / "first")
    assert result["count"] == 397


def test_images_after_the_run_as_before(home: Path, capsys: Captured) -> None:
    assert document(capsys, "embed", "first", "digits", "--out", "z.npz", "--threads", "1")["count"] == 1400
    assert barlowctl(["embed", "first", "digits", "--data", "digits", "--out", "a.npz"]) == 2
    err = capsys.readouterr().err
    assert "images were named twice: 'digits' and --data digits" in err
    assert err.endswith("next: barlowctl embed first digits --out a.npz\n")


@pytest.mark.parametrize("command", [["export"], ["report"], ["pretrain", "--resume"], ["runs", "show"], ["probe"]])
def test_a_name_that_is_no_run_is_said_with_the_nearest(command: list[str], home: Path, capsys: Captured) -> None:
    assert barlowctl([*command, "frist"]) == 2
    err = capsys.readouterr().err
    assert "'frist'" in err
    assert "did you mean 'first'?" in err
    assert "next: " in err


def test_a_model_of_timm_keeps_its_name(home: Path, capsys: Captured) -> None:
    (home / "first").rename(home / "resnet10t")
    small = ["--set", "eval.resize=16", "--set", "eval.crop=16", "--threads", "1"]
    result = document(capsys, "probe", "resnet10t", "--data", "digits", "--knn", *small)
    assert result["kind"] == "random"


def test_a_run_that_was_named_is_advised_with_its_place(home: Path, capsys: Captured) -> None:
    assert barlowctl(["pretrain", "--resume", "half", "--set", "train.epochs=3"]) == 2
    goes_on, anew = capsys.readouterr().err.splitlines()[-2:]
    assert goes_on == f"next: barlowctl pretrain --resume {home / 'half'} --threads 1"
    place = home / "half"
    assert anew == f"next: barlowctl pretrain --recipe {place}/recipe.toml --init {place} --set train.epochs=3"
    advised = completed("--set train.micro_batch=4", ["pretrain", "--resume", "half"], ROOT)
    assert advised == f"barlowctl pretrain --recipe {place}/recipe.toml --init {place} --set train.micro_batch=4"


def test_what_a_shell_completes(home: Path) -> None:
    assert completion.runs("") == ["first", "half"]
    assert completion.runs("ha") == ["half"]
    assert completion.datasets("d") == ["digits"]
    assert "resnet50" in completion.recipes("resnet")
    assert completion.downloads("cifar") == ["cifar10", "cifar100"]
    assert completion.devices("c") == ["cpu", "cuda"]


@pytest.mark.parametrize(
    ("typed", "listed"),
    [
        ("barlowctl pretrain --loader ", {"auto", "fast", "plain"}),
        ("barlowctl export --format to", {"torchvision"}),
        ("barlowctl probe ", {"first", "half"}),
        ("barlowctl ablate lo", {"loss"}),
    ],
)
def test_the_shell_asks_and_is_told(typed: str, listed: set[str], home: Path, checkout: Path) -> None:
    words = typed.split(" ")
    variables = {"COMP_WORDS": typed, "COMP_CWORD": str(len(words) - 1), "_BARLOWCTL_COMPLETE": "complete_bash"}
    script = "import sys; sys.argv[0] = 'barlowctl'; from barlowctl.cli.app import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, **variables, "PYTHONPATH": str(checkout)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert set(done.stdout.split()) == listed


def test_zsh_reads_the_apostrophes_of_help_texts(checkout: Path) -> None:
    """Within single quotes zsh has no doubled one: they end, an apostrophe comes, and they begin again."""
    variables = {"_TYPER_COMPLETE_ARGS": "barlowctl pretrain --re", "_BARLOWCTL_COMPLETE": "complete_zsh"}
    script = "import sys; sys.argv[0] = 'barlowctl'; from barlowctl.cli.app import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, **variables, "PYTHONPATH": str(checkout)},
        capture_output=True,
        text=True,
        check=True,
    )
    [argument] = shlex.split(done.stdout.strip().removeprefix("_arguments"))
    assert '"--recipe":"A shipped recipe\'s name' in argument
