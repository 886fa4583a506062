"""The commands that a finished run prints work for its images."""

from __future__ import annotations

import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from barlowctl.cli.app import run as barlowctl
from tests.cli.conftest import RECIPE

Captured = pytest.CaptureFixture[str]
LAYOUTS = {
    "no labels": ["x/{}.png"],
    "no test split": ["x/a/{}.png", "x/b/{}.png"],
    "one class": ["x/train/a/{}.png", "x/test/a/{}.png"],
    "labels and a test split": ["x/train/a/{}.png", "x/train/b/{}.png", "x/test/a/{}.png", "x/test/b/{}.png"],
}
LIKE_NONE = ("no test split", "one class")  # what is printed is what is printed without labels


@pytest.mark.parametrize(
    "layout",
    ["no labels", "labels and a test split", *(pytest.param(name, marks=pytest.mark.slow) for name in LIKE_NONE)],
)
def test_what_is_printed_at_the_end_of_a_run_works(
    layout: str, tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    generator = np.random.default_rng(0)
    for name in LAYOUTS[layout]:
        for index in range(20):
            file = Path(name.format(index))
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(generator.integers(0, 255, (12, 12, 3), dtype=np.uint8)).save(file)
    Path("r.toml").write_text(RECIPE.replace("epochs = 2", "epochs = 1").replace("holdout = 100", "holdout = 4"))
    command = ["pretrain", "--recipe", "r.toml", "--data", "x", "--out", "run", "--threads", "1"]
    assert barlowctl([*command, "--set", "train.batch_size=16"]) == 0
    lines = capsys.readouterr().out.splitlines()
    commands = [shlex.split(line)[2:] for line in lines if line.startswith("next: barlowctl ")]
    measured = layout == "labels and a test split"
    assert [command[0] for command in commands] == (["probe"] if measured else ["report", "embed"]) + ["export"]
    assert any(line.startswith("note: `probe` cannot measure") for line in lines) is not measured
    for command in commands:
        assert barlowctl(command) == 0, capsys.readouterr().err
    assert barlowctl(["pretrain", "--resume", "run"]) == 2
    advice = capsys.readouterr().err.splitlines()[-1]
    assert barlowctl(shlex.split(advice)[2:]) == 0
