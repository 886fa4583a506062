"""What is skipped is said by every command that reads a folder."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from PIL import Image

from barlowctl.cli.app import run
from barlowctl.data.beton.reader import Beton

RECIPE = """name = "tiny"
[data]
dataset = "nothing"
[views]
size = 32
[model]
backbone = "resnet10t"
projector = [16, 16]
[train]
epochs = 1
batch_size = 4
warmup_epochs = 0.0
[eval]
resize = 36
crop = 32
"""


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("x").mkdir()
    for number in range(4):
        Image.new("RGB", (40, 36), (50 * number, 9, 9)).save(f"x/{number}.jpg")
    Path("x/film.mp4").write_bytes(b"x")
    os.mkfifo("x/live.jpg")
    Path("r.toml").write_text(RECIPE)
    return tmp_path / "x"


EXPECTED = {
    "pipes": {"count": 1, "examples": ["live.jpg"]},
    "videos": {
        "count": 1,
        "examples": ["film.mp4"],
        "next": "take pictures out of one with: ffmpeg -i VIDEO -vf fps=1 frame-%06d.jpg",
    },
}


def test_packing_says_and_keeps_it(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["data", "pack", "x", "./x.beton", "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["passed_over"] == EXPECTED
    assert "passed over: pipes: 1 (live.jpg)" in err
    assert Beton.open("x.beton").info["passed_over"] == EXPECTED


def test_preview_says_it_and_what_lies_beside(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["data", "pack", "x", "x/all.beton", "-q"]) == 0
    capsys.readouterr()
    assert run(["data", "preview", "-r", "r.toml", "--data", "./x", "--out", "p.png", "--json"]) == 0
    out, err = capsys.readouterr()
    assert "note: the images in x are read, and not all.beton beside them" in err
    assert json.loads(out)["passed_over"] == {
        **EXPECTED,
        "packed .beton files": {"count": 1, "examples": ["all.beton"]},
    }


def test_a_run_says_it_in_its_first_lines(photos: Path) -> None:
    from barlowctl.assemble.job import prepare
    from barlowctl.assemble.machine import Runtime
    from barlowctl.recipe import load

    lines = prepare(load.load("r.toml"), Runtime("cpu", 1, 1), "./x").first_lines()
    assert lines["passed over"].startswith("pipes: 1 (live.jpg); videos: 1 (film.mp4)")


def test_embedding_says_it(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = ["--set", "eval.resize=36", "--set", "eval.crop=32"]
    assert run(["embed", "resnet10t", "./x", "--out", "f.npz", "--device", "cpu", "--json", *small]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["passed_over"] == EXPECTED
    assert json.loads(out)["count"] == 4
    assert "passed over: pipes: 1 (live.jpg)" in err
