"""Runs of BYOL, SimSiam and SwAV at the command line: trained, seen, resumed, exported."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from barlowctl.assemble.finished import open_run
from barlowctl.cli.app import run as barlowctl

OF = {
    "byol": ["objective.momentum=0.9"],
    "simsiam": [],
    "swav": ["objective.prototypes=16", "objective.freeze_prototypes_epochs=0.2", "objective.queue=256",
             "objective.queue_from_epoch=0.5", "views.small.count=2", "views.small.size=8"],
}  # fmt: skip
TERMS = {"byol": {"spread"}, "simsiam": {"spread"}, "swav": {"entropy", "spread"}}


def words(name: str) -> list[str]:
    values = [f"objective.name={name}", "optimizer.lr=0.004", "model.projector=[64,32]", *OF[name]]
    return ["--recipe", "digits.toml", *[word for value in values for word in ("--set", value)], "--threads", "1"]


def records(run: str, event: str) -> list[dict[str, Any]]:
    lines = Path(run, "metrics.jsonl").read_text().splitlines()
    return [record for record in map(json.loads, lines) if record["event"] == event]


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] * (name == "simsiam")) for name in OF])
def test_a_run_learns_shows_its_terms_and_is_exported(
    recipe: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    assert barlowctl(["pretrain", *words(name), "--out", "runs/a"]) == 0
    output = capsys.readouterr().out
    steps = records("runs/a", "step")
    assert {"loss", *TERMS[name]} <= steps[-1].keys()
    assert "invariance" not in steps[-1]
    assert f"spread {steps[-1]['spread']:.4g}"[:10] in output
    assert steps[-1]["loss"] < steps[0]["loss"]
    assert steps[-1]["spread"] > 0.2
    (last,) = records("runs/a", "evaluation")[-1:]
    assert last["knn"] > 20.0
    assert last["feature_spread"] > 0.0
    assert barlowctl(["runs", "show", "runs/a"]) == 0
    capsys.readouterr()
    assert barlowctl(["export", "runs/a", "--out", "m.safetensors", "--json"]) == 0
    loaded: dict[str, Any] = {}
    exec(json.loads(capsys.readouterr().out)["python"], loaded)
    images = torch.rand(3, 1, 16, 16)
    method = open_run(Path("runs/a")).method.eval()
    features = loaded["model"].eval()(images)
    torch.testing.assert_close(features, method.backbone(images))
    if name == "byol":  # the online network, as the paper evaluates it, and not the target
        assert not torch.allclose(features, method.target.networks[0](images), rtol=1e-3)  # type: ignore[union-attr, operator, index]


def test_a_dry_run_says_what_it_would_be(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert barlowctl(["pretrain", *words("swav"), "--dry-run"]) == 0
    output = " ".join(capsys.readouterr().out.split())
    assert "codes over 16 prototypes, which stay as they are for the first 10.0% of training" in output
    assert "prototypes 16" in output
