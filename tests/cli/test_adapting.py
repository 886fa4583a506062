"""Weights adapted on the command line: what the start is worth, what stays as it is, and what is said of both."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from barlowctl.cli.app import run
from barlowctl.train import checkpoint

ADAPT = (
    "--set", "train.freeze=layer1", "--set", "train.freeze_backbone_epochs=1", "--set", "optimizer.layer_decay=0.5",
    "--set", "train.epochs=2", "--threads", "1",
)  # fmt: skip
BELOW = ("backbone.conv1.", "backbone.bn1.", "backbone.layer1.")


def weights(path: Path) -> dict[str, torch.Tensor]:
    return load_file(checkpoint.list_checkpoints(path / "checkpoints")[-1] / "model.safetensors")


@pytest.fixture(scope="module")
def adapted(tmp_path_factory: pytest.TempPathFactory, digits: Path, trained: Path) -> tuple[Path, str]:
    """A run from the weights of another one, and what it said."""
    out, output = tmp_path_factory.mktemp("adapted") / "run", io.StringIO()
    arguments = ["--recipe", str(trained / "recipe.toml"), "--init", str(trained), *ADAPT, "--out", str(out)]
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(output):
        patch.setenv("BARLOWCTL_DATA", str(digits))
        assert run(["pretrain", *arguments]) == 0
    return out, output.getvalue()


def test_the_first_line_of_the_curve_is_the_weights_as_they_came(adapted: tuple[Path, str], trained: Path) -> None:
    path, output = adapted
    records = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    evaluations = [record for record in records if record["event"] == "evaluation"]
    steps = 1300 // 128
    assert [(record["step"], record["epoch"]) for record in evaluations] == [(0, -1), (steps, 0), (2 * steps, 1)]
    assert records[0] == evaluations[0]
    result = json.loads((path / "result.json").read_text())
    # What the other run measured last, of the same queries and bank, in the same way.
    before = json.loads((trained / "result.json").read_text())
    assert evaluations[0]["knn"] == before["knn"] == result["knn_start"]
    assert evaluations[1]["knn"] == before["knn"], "the backbone has not moved in the first epoch"
    assert result["knn_gain"] == pytest.approx(result["knn"] - before["knn"])
    answers = [load_file(path / f"diagnostics/step-{step:08d}.safetensors")["knn_correct"] for step in (0, 2 * steps)]
    assert [100.0 * float(a.double().mean()) for a in answers] == pytest.approx([before["knn"], result["knn"]])
    difference = answers[1].double() - answers[0].double()
    assert result["knn_gain_error"] == pytest.approx(100.0 * float(difference.std()) / 10.0)  # 100 queries
    for text in ("evaluation of the start", f"since the start: {result['since_start']}", "100 queries"):
        assert text in " ".join(output.split())
    for text in ("frozen", "the backbone up to layer1", "all of the backbone for the first epoch", "times 0.5"):
        assert text in " ".join(output.split())
    assert run(["runs", "show", str(path), "--json"]) == 0


def test_what_is_frozen_is_as_it_came_and_the_rest_has_moved(adapted: tuple[Path, str], trained: Path) -> None:
    before, after = weights(trained), weights(adapted[0])
    same = {key for key in before if torch.equal(before[key], after[key])}
    assert same == {key for key in before if key.startswith(BELOW)}


def test_the_report_and_the_list_of_numbers_have_the_start(
    adapted: tuple[Path, str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    says = json.loads((adapted[0] / "result.json").read_text())["since_start"]
    assert run(["runs", "show", str(adapted[0])]) == 0
    assert says.split(":")[0] in " ".join(capsys.readouterr().out.split())
    page = tmp_path / "page.html"
    assert run(["report", str(adapted[0]), "--out", str(page), "--no-images"]) == 0
    assert f"Since the start: {says}" in page.read_text()


def test_a_run_from_random_weights_measures_no_start(trained: Path) -> None:
    records = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    assert all(record["step"] > 0 for record in records)
    assert "since_start" not in json.loads((trained / "result.json").read_text())
    assert "knn_correct" not in load_file(next(iter((trained / "diagnostics").glob("*.safetensors"))))


def test_a_dry_run_says_what_would_be_frozen(recipe: Path, trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["pretrain", "--recipe", str(recipe), "--init", str(trained), *ADAPT, "--dry-run", "--json"]
    assert run(arguments) == 0
    facts = json.loads(capsys.readouterr().out)["facts"]
    assert facts["frozen"].startswith("the backbone up to layer1: ")
    assert facts["layers"].endswith("0.5 at the top, 1 at the heads")


def test_recipe_adapt_takes_the_network_of_the_weights(
    recipe: Path, trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = ["views.size=16", "eval.crop=16", "eval.resize=16", "train.batch_size=64", "model.projector=[32]"]
    changes = [word for value in small for word in ("--set", value)]
    arguments = ["pretrain", "--recipe", "adapt", "--data", "digits", "--init", str(trained), *changes]
    assert run([*arguments, "--dry-run", "--threads", "1", "--json"]) == 0
    planned = json.loads(capsys.readouterr().out)
    facts = planned["facts"]
    assert facts["model"].startswith("resnet10t, ")
    assert "reshaped: conv1.0.weight" in facts["start"]  # grey weights, colour images
    assert facts["frozen"] == "all of the backbone for the first 5 epochs, while the heads learn"
    assert "layers" not in facts  # one rate for all of them
    assert "warning" not in facts
    assert planned["start"]["heads"]["projector"] != "taken"  # it is of another width


def test_a_part_that_is_not_there_is_refused_before_anything_is_written(
    recipe: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    out = tmp_path / "none"
    assert run(["pretrain", "--recipe", str(recipe), "--set", "train.freeze=layer7", "--out", str(out)]) == 2
    message = " ".join(capsys.readouterr().err.split())
    assert "train.freeze is 'layer7'" in message
    assert "none, stem, layer1, layer2, layer3, layer4, backbone" in message
    assert not out.exists()
