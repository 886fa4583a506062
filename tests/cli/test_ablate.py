"""`barlowctl ablate`: the plan, a small real study, resuming it, and refusals."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from barlowctl.cli.app import run as barlowctl

Captured = pytest.CaptureFixture[str]


def test_drop_aug_as_it_stands_says_what_is_missing(recipe: Path, capsys: Captured) -> None:
    assert barlowctl(["ablate", "--drop-aug"]) == 2
    assert "barlowctl data pack" in capsys.readouterr().err


def test_the_plan_lists_the_variants(recipe: Path, capsys: Captured, tmp_path: Path) -> None:
    command = ["ablate", "--drop-aug", "--recipe", str(recipe), "--seeds", "3", "--dry-run", "--json", "--threads", "1"]
    assert barlowctl(command) == 0
    plan = json.loads(capsys.readouterr().out)
    names = [variant["name"] for variant in plan["variants"]]
    assert names == ["baseline", "no-grayscale", "no-color", "crop-and-blur", "crop-only"]
    assert plan["seconds"] > 0
    assert not (tmp_path / "studies").exists()


def test_a_study_is_trained_measured_and_resumed(recipe: Path, tmp_path: Path, capsys: Captured) -> None:
    grid = tmp_path / "grid.toml"
    grid.write_text('[baseline]\n[narrow]\n"model.projector" = [16, 16]\n')
    command = ["ablate", "--grid", str(grid), "--recipe", str(recipe), "--out", "study", "--json", "--threads", "1"]
    command += ["--set", "train.epochs=1", "--set", "eval.every_epochs=0"]
    assert barlowctl(command) == 0
    first = json.loads(capsys.readouterr().out)
    assert [row["variant"] for row in first["rows"]] == ["baseline", "narrow"]
    for row in first["rows"]:
        assert 0.0 < row["knn"] <= 100.0
        assert row["effective_rank"] > 1.0
    finished = {path: path.stat().st_mtime_ns for path in (tmp_path / "study").rglob("*.safetensors")}
    assert barlowctl([*command, "--seeds", "2"]) == 0
    second = json.loads(capsys.readouterr().out)
    assert [row["seeds"] for row in second["rows"]] == [2, 2]
    assert second["rows"][0]["knn_std"] is not None
    assert {path: path.stat().st_mtime_ns for path in finished} == finished  # nothing was trained again


@pytest.mark.parametrize(
    ("arguments", "says"), [([], "no study was named"), (["--loss", "--lambd"], "one study at a time")]
)
def test_one_study_is_named(recipe: Path, capsys: Captured, arguments: list[str], says: str) -> None:
    assert barlowctl(["ablate", *arguments]) == 2
    captured = capsys.readouterr().err
    assert says in captured
    assert "--drop-aug" in captured
