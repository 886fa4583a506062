"""Runs of every method at the command line: trained, looked at, measured."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from barlowctl.cli.app import run as barlowctl


def test_a_supervised_run_learns_the_labels(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [
        "--recipe",
        "digits.toml",
        "--set",
        "objective.name=supervised",
        "--set",
        "optimizer.lr=0.02",
        "--threads",
        "1",
    ]
    assert barlowctl(["pretrain", *words, "--dry-run"]) == 0
    assert "cross-entropy over 10 classes, backbone trained" in capsys.readouterr().out
    assert barlowctl(["pretrain", *words, "--out", "runs/a"]) == 0
    assert "accuracy 0." in capsys.readouterr().out
    records = [json.loads(line) for line in Path("runs/a/metrics.jsonl").read_text().splitlines()]
    steps = [record for record in records if record["event"] == "step"]
    assert {"loss", "accuracy"} <= steps[-1].keys()
    assert "invariance" not in steps[-1]
    assert steps[-1]["accuracy"] > 0.3 > steps[0]["accuracy"]
    (last,) = [record for record in records if record["event"] == "evaluation"][-1:]
    assert last["knn"] > 50.0
    assert "mean_diagonal" not in last
    about = json.loads(Path("runs/a/run.json").read_text())
    assert (about["terms"].keys(), about["context"]) == ({"accuracy"}, {"images": 1400, "classes": 10})
    assert barlowctl(["probe", "runs/a", "--threads", "1"]) == 0
    assert barlowctl(["runs", "show", "runs/a"]) == 0
    assert barlowctl(["export", "runs/a"]) == 0
    assert barlowctl(["report", "runs/a", "--threads", "1", "--no-previews"]) == 0
    capsys.readouterr()


DECORRELATING = {
    "vicreg": ({"invariance", "variance", "covariance"}, ["objective.name=vicreg"]),
    "mixed-barlow-twins": ({"invariance", "redundancy", "mixing"}, ["objective.name=mixed-barlow-twins"]),
    "barlow-twins": ({"invariance", "redundancy"}, ["views.small.count=2", "views.small.size=8"]),
    "pirl": (
        {"image", "patches"},
        [
            "objective.name=pirl",
            "objective.negatives=64",
            "views.patches.grid=2",
            "views.patches.cell=12",
            "views.patches.window=8",
        ],
    ),
}


@pytest.mark.parametrize(
    "name",
    [
        "pirl",
        "barlow-twins",
        pytest.param("vicreg", marks=pytest.mark.slow),
        pytest.param("mixed-barlow-twins", marks=pytest.mark.slow),
    ],
)
def test_a_run_notes_the_terms_of_its_method_and_is_exported(
    name: str, recipe: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Small views and patches come from the packed file; micro-batches are taken by each."""
    terms, changes = DECORRELATING[name]
    changes = [*changes, "train.epochs=1", "train.warmup_epochs=0", "train.micro_batch=16"]
    words = [word for change in changes for word in ("--set", change)]
    assert barlowctl(["pretrain", "--recipe", "digits.toml", *words, "--threads", "1", "--out", "runs/a"]) == 0
    records = [json.loads(line) for line in Path("runs/a/metrics.jsonl").read_text().splitlines()]
    steps = [record for record in records if record["event"] == "step"]
    assert terms | {"loss"} <= steps[-1].keys()
    assert json.loads(Path("runs/a/run.json").read_text())["terms"].keys() == terms
    (last,) = [record for record in records if record["event"] == "evaluation"]
    assert 0.0 < last["embedding_spread"] < 1.5
    assert ("mean_diagonal" in last) == (name != "pirl")
    assert barlowctl(["export", "runs/a"]) == 0
    capsys.readouterr()
