"""Runs of every method at the command line: trained, looked at, measured, exported."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open

from barlowctl.cli.app import run as barlowctl
from barlowctl.recipe.objectives import METHODS

Captured = pytest.CaptureFixture[str]
SHORT = ["--recipe", "digits.toml", "--threads", "1", "--set", "train.epochs=1"]


def records(run: str, event: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in Path(run, "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if line["event"] == event]


def method_of(file: str) -> str:
    """What an export says of where its weights come from."""
    with safe_open(file, "pt") as opened:
        return opened.metadata()["method"]


def test_a_supervised_run_learns_the_labels(recipe: Path, capsys: Captured) -> None:
    words = ["--recipe", "digits.toml", "--threads", "1", "--set", "objective.name=supervised"]
    assert barlowctl(["pretrain", *words, "--set", "optimizer.lr=0.02", "--out", "runs/a"]) == 0
    output = capsys.readouterr().out
    assert "supervised, cross-entropy over 10 classes, backbone trained" in output
    assert "accuracy 0." in output
    first, *_, last = records("runs/a", "step")
    assert {"loss", "accuracy"} <= last.keys()
    assert "invariance" not in last
    assert last["accuracy"] > 0.3 > first["accuracy"]
    measured = records("runs/a", "evaluation")[-1]
    assert measured["knn"] > 50.0
    assert not {"mean_diagonal", "embedding_spread"} & measured.keys()
    about = json.loads(Path("runs/a/run.json").read_text())
    assert (about["terms"].keys(), about["context"]) == ({"accuracy"}, {"images": 1400, "classes": 10})
    assert barlowctl(["runs", "show", "runs/a"]) == 0
    assert "accuracy" in capsys.readouterr().out
    assert barlowctl(["export", "runs/a", "--out", "a.safetensors"]) == 0
    assert method_of("a.safetensors") == "supervised"
    capsys.readouterr()
    assert barlowctl(["export", "runs/a", "--with-projector", "--out", "b.safetensors"]) == 2
    assert "there is no projector" in capsys.readouterr().err


def test_runs_of_two_methods_are_compared_under_the_terms_of_both(
    trained: Path, recipe: Path, capsys: Captured
) -> None:
    assert barlowctl(["pretrain", *SHORT, "--set", "objective.name=supervised", "--out", "runs/a", "--quiet"]) == 0
    capsys.readouterr()
    assert barlowctl(["runs", "compare", str(trained), "runs/a", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert list(document["curves"]) == ["loss", "invariance", "redundancy", "accuracy", "knn"]
    assert list(document["curves"]["accuracy"]) == ["a"]
    changes = document["runs"][1]["changes"]
    assert (changes["objective.name"], changes["objective.lambd"]) == ("supervised", None)


def test_images_without_a_label_are_left_out_where_labels_are_learned(recipe: Path, capsys: Captured) -> None:
    from barlowctl.assemble.data import open_recipe_images
    from barlowctl.assemble.holdout import held_out, learned_from
    from barlowctl.recipe import load

    value = load.load(str(recipe), ["objective.name=supervised"])
    source = open_recipe_images(value)
    source.labels[::7] = -1
    lacking = set(range(0, 1400, 7))
    assert len(learned_from(source, value)) == 1200
    train, held = held_out(source, value)
    assert (len(train), len(held)) == (1100, 100)
    assert not lacking & {*train.tolist(), *held.tolist()}
    assert len(learned_from(source, load.load(str(recipe)))) == 1400


def test_pirls_negatives_are_of_the_images_that_are_not_held_out(recipe: Path) -> None:
    from barlowctl.assemble.job import prepare
    from barlowctl.assemble.machine import Runtime
    from barlowctl.methods import PIRL
    from barlowctl.recipe import load

    patches = ["views.patches.grid=2", "views.patches.cell=12", "views.patches.window=8"]
    value = load.load(str(recipe), ["objective.name=pirl", *patches, "data.holdout=100"])
    job = prepare(value, Runtime(threads=1))
    assert isinstance(job.method, PIRL)
    assert job.method.trained_on is not None
    assert (job.method.images, len(job.method.bank)) == (1300, 1400)
    assert job.method.trained_on.tolist() == job.split[0].tolist()


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_every_method_is_planned_trained_measured_and_exported(name: str, recipe: Path, capsys: Captured) -> None:
    run, words = f"runs/{name}", [*SHORT, "--set", f"objective.name={name}"]
    assert barlowctl(["pretrain", *words, "--dry-run"]) == 0
    assert f"{name}, " in capsys.readouterr().out
    assert barlowctl(["pretrain", *words, "--out", run, "--quiet"]) == 0
    terms = json.loads(Path(run, "run.json").read_text())["terms"]
    assert {"loss", *terms} <= records(run, "step")[-1].keys()
    assert 0.0 <= records(run, "evaluation")[-1]["feature_spread"] <= 1.01
    capsys.readouterr()
    assert barlowctl(["runs", "show", run]) == 0
    assert barlowctl(["probe", run, "--threads", "1"]) == 0
    output = capsys.readouterr().out
    assert all(term in output for term in terms)
    assert barlowctl(["embed", run, "--data", "digits", "--out", "features.npz", "--threads", "1"]) == 0
    assert barlowctl(["export", run, "--out", "out.safetensors"]) == 0
    assert method_of("out.safetensors") == name
    assert barlowctl(["report", run, "--threads", "1"]) == 0
    page = Path(run, "report.html").read_text()
    assert all(f">{term.capitalize()}<" in page for term in terms)


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
        pytest.param("barlow-twins", marks=pytest.mark.slow),
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
