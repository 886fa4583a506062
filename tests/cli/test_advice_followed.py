"""Errors are provoked, the printed `next:` is typed as it stands, and the error does not come again."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from barlowctl.cli.app import run as barlowctl

Captured = pytest.CaptureFixture[str]
KNOWN_BY_THE_PERSON = {"OUT.beton": "packed.beton", "FOLDER": "my images", "IMAGES": "my images", "SOURCE": "my images"}


def typed(line: str) -> int:
    """What a shell does with a line of advice: each command that `&&` joins, in this process where it is ours."""
    code = 0
    for command in line.split(" && "):
        words = [KNOWN_BY_THE_PERSON.get(word, word) for word in shlex.split(command)]
        ours = words[0] == "barlowctl"
        code = barlowctl(words[1:]) if ours else subprocess.run(words, capture_output=True, check=False).returncode
        if code:
            break
    return code


def provoked(capsys: Captured, arguments: list[str]) -> tuple[str, list[str]]:
    """The error of a command, and the lines of what to type next."""
    capsys.readouterr()
    assert barlowctl(arguments) == 2, arguments
    shown = capsys.readouterr().err
    error = re.search(r"^error: (.*)$", shown, re.MULTILINE)
    assert error is not None, shown
    lines = re.findall(r"^next: (.*)$", shown, re.MULTILINE)
    assert lines, shown
    return error[1], lines


@pytest.fixture
def here(recipe: Path, trained: Path) -> Path:
    """A folder with: a finished run `runs/done`, an unfinished one `runs/stopped`, images with spaces in their path."""
    shutil.copytree(trained, "runs/done")
    shutil.copytree(trained, "runs/stopped")
    Path("runs/stopped/result.json").unlink()
    for split in ("train", "test"):
        for name in "ab":
            folder = Path("my images") / split / name
            folder.mkdir(parents=True)
            for number in range(3):
                pixels = np.random.default_rng(number).integers(0, 255, (24, 32, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.png")
    shutil.copytree("my images/train/a", "one folder")
    shutil.copytree("one folder", "with a bad one")
    whole = Path("one folder/0.png").read_bytes()
    Path("with a bad one/bad.png").write_bytes(whole[: len(whole) // 2])
    Path("there.beton").write_bytes(b"")
    Path("taken").mkdir()
    Path("taken/file").touch()
    return recipe


SMALL = ["--set", "eval.resize=16", "--set", "eval.crop=16", "--threads", "1"]
TRAIN = ["pretrain", "--recipe", "digits.toml", "--dry-run"]
SCENARIOS = {
    "embed nothing": ["embed", "resnet10t", "one folder", *SMALL],
    "packed file there": ["data", "pack", "one folder", "./there.beton"],
    "unreadable image": ["data", "pack", "with a bad one", "./new.beton", "--on-unreadable", "fail"],
    "split not there": ["data", "preview", "--data", "my images", "--split", "unlabelled"],
    "info of a folder": ["data", "info", "./one folder"],
    "one photo": ["embed", "resnet10t", "./one folder/0.png", "--out", "f.npz", *SMALL],
    "folder not there": ["recipes", "copy", "quickstart", "new folder/mine.toml"],
    "no such recipe": ["pretrain", "--recipe", "quickstrt"],
    "batch larger than the data": [*TRAIN, "--set", "train.batch_size=4096"],
    "last batch of one": [*TRAIN, "--set", "train.batch_size=1299", "--set", "data.drop_last=false"],
    "too many held out": [*TRAIN, "--set", "data.holdout=1399", "--set", "eval.queries=off"],
    "pretrained name": [*TRAIN, "--set", "model.backbone=resnet10t.c3_in1k"],
    "no sbatch": ["pretrain", "--recipe", "digits.toml", "--slurm"],
    "resumed to another place": ["pretrain", "--resume", "runs/stopped", "--out", "runs/b"],
    "finished": ["pretrain", "--resume", "runs/done"],
    "place taken": ["pretrain", "--recipe", "digits.toml", "--out", "taken", "--threads", "1"],
    "no run": ["pretrain", "--resume", "runs/none"],
    "two sources": ["export", "runs/done", "--from-official", "x.pth"],
    "no torchvision model": ["export", "runs/done", "--format", "torchvision"],
    "export there": ["export", "runs/done", "--out", "runs/done/recipe.safetensors"],
    "no such run": ["runs", "show", "nothing"],
    "no picture": ["runs", "compare", "done", "stopped", "--out", "curves.txt"],
    "wrong flag": ["runs", "list", "--al"],
    "no key and value": ["recipes", "show", "quickstart", "--set", "epochs"],
    "no place of a report": ["report", "runs/none"],
}  # fmt: skip
LONG = {"finished", "last batch of one", "batch larger than the data"}
"""They probe, or time steps of a large batch."""


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in LONG else name for name in SCENARIOS]
)
def test_following_the_advice_leads_on(
    name: str, here: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", os.defpath)  # no sbatch, wherever the tests run
    if name == "export there":
        Path("runs/done/recipe.safetensors").touch()
    error, lines = provoked(capsys, SCENARIOS[name])
    for line in lines:
        code = typed(line)
        shown = capsys.readouterr().err
        assert f"error: {error}" not in shown, f"{line}: the same error again"
        assert code == 0, f"{line}: {shown}"


def test_a_study_record_is_removed_and_measured_again(here: Path, capsys: Captured, tmp_path: Path) -> None:
    Path("studies/digits").mkdir(parents=True)
    Path("studies/digits/study.json").write_text("{")
    error, (line,) = provoked(capsys, ["ablate", "--loss", "--recipe", "digits.toml", "--show"])
    assert "study.json" in error
    assert line == "rm studies/digits/study.json && barlowctl ablate --loss --recipe digits.toml --show"
    typed(line)  # nothing is finished there: said, and the damage is gone
    assert "cannot be read" not in capsys.readouterr().err


def test_a_missing_data_set_is_answered_with_what_brings_it(here: Path, capsys: Captured) -> None:
    _, (line,) = provoked(capsys, ["pretrain", "--recipe", "quickstart"])
    assert line == "barlowctl data get fashion-mnist"
    _, (line,) = provoked(capsys, ["pretrain", "--recipe", "digits.toml", "--set", "data.dataset=scans"])
    assert line == "barlowctl data pack IMAGES scans --split train"
    monkeypatch = pytest.MonkeyPatch()
    with monkeypatch.context() as patch:
        patch.setenv("BARLOWCTL_DATA", str(Path("home").resolve()))
        assert typed(line) == 0
        assert barlowctl([*TRAIN, "--set", "data.dataset=scans", "--set", "train.batch_size=4",
                          "--set", "data.channels=3", "--set", "views.mean=[0.5,0.5,0.5]",
                          "--set", "views.std=[0.5,0.5,0.5]", "--set", "data.holdout=2"]) == 0  # fmt: skip
