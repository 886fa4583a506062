"""What starts a command again: `barlowctl`, or the program of somebody whose networks it imports first."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from barlowctl import program
from barlowctl.cli import app
from barlowctl.launchers import pool, ranks
from barlowctl.launchers.slurm import Slurm, run_script, study_script
from barlowctl.recipe.keys import Own
from barlowctl.recipe.objectives import METHODS
from tests.cli.conftest import RECIPE, digits  # noqa: F401 - a fixture

CODE = "import mine, runpy; runpy.run_module('barlowctl', run_name='__main__')"
QUOTED = shlex.quote(CODE)
GO_ON = "barlowctl pretrain --resume runs/a"


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """As if this process had been started by these words, with a network of somebody's."""
    words, first = request.param
    monkeypatch.setattr(program, "_began", True)
    monkeypatch.setattr(sys, "orig_argv", ["python", *words, "runs", "list"])
    monkeypatch.setattr(sys, "argv", [first, "runs", "list"])
    registry = SimpleNamespace(list_modules=lambda: ["resnet", "mine"])
    monkeypatch.setitem(sys.modules, "timm.models", registry)
    monkeypatch.setitem(sys.modules, "timm.models.resnet", SimpleNamespace())


BY_CODE, BY_FILE, BY_MODULE = (["-c", CODE], "-c"), (["-u", "go.py"], "go.py"), (["-m", "mine.go"], "/x/mine/go.py")


@pytest.mark.parametrize(
    ("started", "alone", "by_torchrun"),
    [
        (BY_CODE, f"python -c {QUOTED}", f"--no-python python -c {QUOTED}"),
        (BY_FILE, "python go.py", "go.py"),
        (BY_MODULE, "python -m mine.go", "--no-python python -m mine.go"),
        ((["/venv/bin/barlowctl"], "/venv/bin/barlowctl"), "barlowctl", "-m barlowctl"),
        ((["-m", "barlowctl"], "/x/barlowctl/__main__.py"), "barlowctl", "-m barlowctl"),
        ((["/x/barlowctl/__main__.py"], "/x/barlowctl/__main__.py"), "barlowctl", "-m barlowctl"),
    ],
    indirect=["started"],
)
def test_what_is_typed_next_begins_as_this_process_did(started: None, alone: str, by_torchrun: str) -> None:
    assert program.as_started(GO_ON) == f"{alone} pretrain --resume runs/a"
    assert program.as_started(f"BARLOWCTL_DEBUG=1 {GO_ON}") == f"BARLOWCTL_DEBUG=1 {alone} pretrain --resume runs/a"
    launched = "torchrun --standalone --nproc-per-node 2"
    assert program.as_started(f"{launched} -m {GO_ON}") == f"{launched} {by_torchrun} pretrain --resume runs/a"
    assert (
        program.as_started("pip install 'barlowctl[onnx]'; cd barlowctl")
        == "pip install 'barlowctl[onnx]'; cd barlowctl"
    )
    assert program.as_started("that is what barlowctl needs") == "that is what barlowctl needs"


def test_the_commands_that_begin_so_are_those_of_the_command_line() -> None:
    assert set(program.COMMANDS) == set(app.commands().commands)


@pytest.mark.parametrize("started", [BY_CODE], indirect=True)
def test_without_a_network_of_somebodys_it_is_barlowctl(started: None, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(program, "_began", False)  # called from Python
        assert program.own_words() == []
    sys.modules["timm.models"].list_modules = lambda: ["resnet"]  # type: ignore[attr-defined]
    assert program.own_words() == []
    assert program.as_started(GO_ON) == GO_ON


@pytest.mark.parametrize("started", [BY_CODE], indirect=True)
def test_a_method_of_somebodys_counts_as_a_network_does(started: None, monkeypatch: pytest.MonkeyPatch) -> None:
    sys.modules["timm.models"].list_modules = lambda: ["resnet"]  # type: ignore[attr-defined]
    assert program.own_words() == []
    monkeypatch.setitem(METHODS, "somebodys", Own)
    assert program.own_words() == ["-c", CODE]


@pytest.mark.parametrize("started", [BY_CODE], indirect=True)
def test_so_does_what_is_started_beside_it(started: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    entries: list[list[str]] = []

    def launched(config: object, entry: object) -> object:
        return lambda *arguments: entries.append([str(entry), *arguments])

    monkeypatch.setattr(ranks, "elastic_launch", launched)
    assert ranks.run_ranks(["pretrain", "--processes", "2"], 2) == 0
    python = [sys.executable, "-u", "-c", CODE, "pretrain", "--processes", "2"]
    assert entries == [python]
    monkeypatch.setattr(pool.subprocess, "Popen", lambda words, **_: entries.append(words))
    pool._start(["ablate"], tmp_path / "log", tmp_path / "failure")
    assert entries[1] == [sys.executable, "-c", CODE, "ablate"]
    job = run_script(tmp_path / "a", Slurm(1, 2, False, None, {}), ["--recipe", "r.toml"], ["--data", "d"])
    inner = """    exec "$0" "$@"' """
    assert f'{inner}{shlex.quote(sys.executable)} -c {QUOTED} pretrain "$@" --data d' in job
    array = study_script([0], ["loss"], out=tmp_path / "s")
    assert f"srun {shlex.quote(sys.executable)} -c {QUOTED} ablate loss --cell" in array


@pytest.mark.parametrize(
    ("started", "alone", "by_torchrun"),
    [
        (BY_CODE, f"python -c {QUOTED}", f"--no-python python -c {QUOTED}"),
        ((["/venv/bin/barlowctl"], "/venv/bin/barlowctl"), "barlowctl", "-m barlowctl"),
    ],
    indirect=["started"],
)
def test_what_was_imported_first_is_so_again(
    started: None, alone: str, by_torchrun: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(program, "_imported", ("mine", "a b.py"))
    imports = "--import mine --import 'a b.py'"
    line = f"{alone} {imports} pretrain --resume runs/a"
    assert program.as_started(GO_ON) == line
    assert program.as_started(program.as_started(GO_ON)) == line
    launched = "torchrun --standalone --nproc-per-node 2"
    assert (
        program.as_started(f"{launched} -m {GO_ON}") == f"{launched} {by_torchrun} {imports} pretrain --resume runs/a"
    )
    assert program.as_started("barlowctl --import other probe") == f"{alone} --import other probe"


def test_what_is_started_beside_it_imports_the_same(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A Slurm job may start in another folder: files are named by their whole paths."""
    monkeypatch.setattr(program, "_imported", ("mine", "code/more.py"))
    monkeypatch.chdir(tmp_path)
    entries: list[list[str]] = []
    monkeypatch.setattr(ranks, "elastic_launch", lambda *_: lambda *words: entries.append([*words]))
    assert ranks.run_ranks(["pretrain", "--processes", "2"], 2) == 0
    imports = ["--import", "mine", "--import", "code/more.py"]
    assert entries[0][-5 - 3 :] == ["barlowctl", *imports, "pretrain", "--processes", "2"][-8:]
    monkeypatch.setattr(pool.subprocess, "Popen", lambda words, **_: entries.append(words))
    pool._start(["ablate"], tmp_path / "log", tmp_path / "failure")
    assert entries[1] == [sys.executable, "-m", "barlowctl", *imports, "ablate"]
    job = run_script(tmp_path / "a", Slurm(1, 2, False, None, {}), ["--recipe", "r.toml"], ["--data", "d"])
    own = f"-m barlowctl --import mine --import {shlex.quote(str(tmp_path / 'code/more.py'))}"
    assert f'{shlex.quote(sys.executable)} {own} pretrain "$@" --data d' in job
    assert f"srun {shlex.quote(sys.executable)} {own} ablate loss --cell" in study_script(
        [0], ["loss"], out=tmp_path / "s"
    )


PROGRAM = """
import os
import timm
from timm.models import register_model
from torch import nn

class Small(nn.Module):
    num_classes, num_features, calls = 0, 8, 0

    def __init__(self, channels):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(channels, 8, 3, stride=2), nn.BatchNorm2d(8), nn.ReLU())

    def forward(self, images):
        Small.calls += 1
        if os.environ.get("RANK") == "1" and Small.calls > 9:
            raise ValueError("nine is enough")
        return self.body(images).mean((2, 3))

@register_model
def small(pretrained=0, pretrained_cfg=None, pretrained_cfg_overlay=None, cache_dir=None, num_classes=0, in_chans=3):
    return Small(in_chans)

from barlowctl.cli.app import main
main()
"""


@pytest.mark.slow
@pytest.mark.dist
def test_an_error_on_a_rank_names_it_the_newest_checkpoint_and_the_program(
    tmp_path: Path,
    digits: Path,  # noqa: F811
) -> None:
    (tmp_path / "go.py").write_text(PROGRAM)
    (tmp_path / "digits.toml").write_text(RECIPE)
    changes = ("model.backbone=small", "model.backbone_args={}", "model.stem=default", "train.checkpoint_every_steps=1")
    words = [word for change in (*changes, "eval.queries=off", "train.epochs=20") for word in ("--set", change)]
    launched = ["--standalone", "--nproc-per-node", "2", "go.py"]
    ended = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", *launched, "pretrain", "--recipe", "digits.toml", "--out",
         "runs/a", *words],
        cwd=tmp_path, env={**os.environ, "BARLOWCTL_DATA": str(digits), "OMP_NUM_THREADS": "1"}, capture_output=True,
        text=True,
    )  # fmt: skip
    [error] = [line for line in ended.stderr.splitlines() if line.startswith("error: ")]
    go_on = f"torchrun {' '.join(launched)} pretrain --resume runs/a --threads 1"
    saved = max((tmp_path / "runs/a/checkpoints").glob("step-*")).name.removeprefix("step-").lstrip("0")
    assert error == (
        f"error: {tmp_path}/go.py, line 17: ValueError: nine is enough; the newest checkpoint is of step {saved}: "
        f"{go_on}; on rank 1 of 2"
    )
    assert f"\nnext: BARLOWCTL_DEBUG=1 {go_on}" in ended.stderr
