"""A packed data set, a stopped run and a study that an earlier commit wrote: shown, measured, exported, gone on with.

The files below `written_before` were made at commit 8e04b2b, of 80 and 40 of scikit-learn's digits: a run of 16 steps
that SIGTERM stopped at step 10 (its backbone's features of a ramp were `FEATURES`), and a cell of `ablate --loss`.
Paths and the platform's name in them are others.
"""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from barlowctl.assemble.finished import open_run
from barlowctl.cli.app import run as barlowctl
from barlowctl.exports import read_export

FILES = Path(__file__).parent / "written_before"
FEATURES = (0.0, 0.0, 0.4986493, 0.851527)
Captured = pytest.CaptureFixture[str]


@pytest.fixture
def before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the runs home `runs`, the folder `study`, and a data home beside them."""
    for name in ("runs", "study"):
        shutil.copytree(FILES / name, tmp_path / name)
    data = tmp_path / "data" / "tiny"
    data.mkdir(parents=True)
    for split in ("train", "test"):
        (data / f"{split}.beton").write_bytes(gzip.decompress((FILES / "data" / "tiny" / f"{split}.gz").read_bytes()))
    monkeypatch.setenv("BARLOWCTL_DATA", str(data.parent))
    monkeypatch.setenv("BARLOWCTL_RUNS", str(tmp_path / "runs"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def document(capsys: Captured, *arguments: str) -> Any:
    assert barlowctl([*arguments, "--json", "--quiet"]) == 0, capsys.readouterr().err
    return json.loads(capsys.readouterr().out)


def features(backbone: torch.nn.Module) -> list[float]:
    with torch.no_grad():
        values: list[float] = backbone(torch.linspace(-1, 1, 16 * 16).reshape(1, 1, 16, 16))[0].tolist()
    return values


def test_it_is_shown(before: Path, capsys: Captured) -> None:
    (row,) = document(capsys, "runs", "list")["runs"]
    assert (row["name"], row["step"], row["total_steps"]) == ("stopped", 10, 16)
    assert (row["state"], document(capsys, "runs", "show", "stopped")["knn"]) == ("stopped", 12.5)
    assert document(capsys, "runs", "best", "stopped")["best"]["step"] == 8
    assert document(capsys, "data", "info", "tiny", "--split", "test", "--verify")["samples"] == 40


def test_it_is_measured_and_exported(before: Path, capsys: Captured) -> None:
    run = open_run(Path("runs/stopped"))
    assert (run.step, features(run.method.backbone)) == (10, pytest.approx(FEATURES, rel=1e-4))
    assert document(capsys, "probe", "stopped", "--knn", "--threads", "1")["data"]["test"]["images"] == 40
    exported = document(capsys, "export", "stopped", "--out", "backbone.safetensors", "--with-projector")
    assert features(read_export(Path(exported["path"])).backbone) == pytest.approx(FEATURES, rel=1e-4)


def test_it_goes_on(before: Path, capsys: Captured) -> None:
    metrics = before / "runs" / "stopped" / "metrics.jsonl"
    recorded = metrics.read_text()
    result = document(capsys, "pretrain", "--resume", "stopped", "--threads", "1")
    assert result["steps"] == 16
    assert metrics.read_text().startswith(recorded)
    assert json.loads(metrics.read_text()[len(recorded) :].partition("\n")[0])["step"] == 12


def test_a_study_that_is_not_named_is_led_to(before: Path, capsys: Captured) -> None:
    assert barlowctl(["ablate", "--out", "study", "--show"]) == 2
    command = "barlowctl ablate loss --recipe study/recipe.toml --seeds 1 --out study"
    assert capsys.readouterr().err == f"error: no study was named\nallowed: loss in 'study'\nnext: {command} --show\n"
    (study,) = document(capsys, *command.split()[1:], "--show")["studies"]
    assert study["rows"][0]["linear_top1"] == 22.5
    assert barlowctl(["ablate", "--out", "study"]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == f"next: {command}"


@pytest.mark.parametrize("named", [["--loss", "--recipe", "study/recipe.toml"], []])
def test_a_study_of_the_first_versions_leads_to_its_runs(named: list[str], before: Path, capsys: Captured) -> None:
    """As commit 78a6bc5 wrote one: its variants in study.json, no recipe, and cells in folders without a digest."""
    cells = before / "old" / "cells"
    for name in ("baseline", "invariance-only"):
        shutil.copytree("runs/stopped", cells / name / "seed-0")
        (cells / name / "seed-0" / "result.json").write_text('{"loss": 12.5, "steps": 16}')
    record = {"study": "loss", "recipe_digest": "0d1d38e61361915c", "variants": {"baseline": []}}
    (cells.parent / "study.json").write_text(json.dumps(record))
    assert barlowctl(["ablate", *named, "--out", "old", "--show"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[:2] == [
        "error: 'old' holds a study of a version before November 25, 2026, which is neither shown nor gone on with",
        "allowed: its numbers are in old/table.json, and its cells are runs",
    ]
    table = "barlowctl runs table old/cells/baseline/seed-0 old/cells/invariance-only/seed-0"
    assert lines[2] == f"next: {table}"
    assert lines[3].endswith("--out old-2")
    assert document(capsys, *table.split()[1:])["rows"]


def test_a_study_is_shown_and_goes_on(before: Path, capsys: Captured) -> None:
    recipe = ["--recipe", "study/recipe.toml", "--loss", "--only", "baseline", "--out", "study"]
    cell = before / "study" / "cells" / "baseline-44291389" / "seed-0" / "cell.json"
    measured = json.loads(cell.read_text())["measures"]
    (study,) = document(capsys, "ablate", *recipe, "--show")["studies"]
    assert study["rows"][0]["linear_top1"] == measured["linear_top1"] == 22.5
    (study,) = document(capsys, "ablate", *recipe, "--seeds", "2", "--threads", "1")["studies"]
    assert study["rows"][0]["finished"] == [0, 1]
    assert json.loads(cell.read_text())["measures"] == measured
