"""Commands with --device cuda on a pretended card (`tests/gpu/pretended_card.py`): no tensor is on the wrong device."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from barlowctl.cli.app import run as barlowctl
from barlowctl.runs import records
from tests.gpu.pretended_card import pretended_card

QUEUE = {"moco": "objective.queue=256", "swav": "objective.queue=256", "pirl": "objective.negatives=100"}


def on_card(*words: Any) -> int:
    with pretended_card():
        return barlowctl([*map(str, words), "--device", "cuda"])


@pytest.fixture
def copied(trained: Path, tmp_path: Path) -> Path:
    """A finished run of the test's own, which was trained on a CPU."""
    return Path(shutil.copytree(trained, tmp_path / "run"))


@pytest.mark.parametrize("sets", [[], ["optimizer.name=lars", "eval.linear=true"]], ids=str)
def test_a_run(recipe: Path, tmp_path: Path, sets: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Its steps are captured as a graph, it is measured, and its checkpoint goes on where there is no GPU."""
    words = [word for key in [*sets, "train.checkpoint_every_steps=5"] for word in ("--set", key)]
    assert on_card("pretrain", "--recipe", recipe, "--out", tmp_path / "run", *words) == 0
    output = capsys.readouterr()
    assert "device     a pretended card, " in output.out
    assert "captured" not in output.out + output.err
    evaluated = [
        record for record in records.read(tmp_path / "run" / "metrics.jsonl") if record["event"] == "evaluation"
    ]
    assert len(evaluated) == 2
    assert ("linear" in evaluated[1]) is bool(sets)
    (tmp_path / "run" / "result.json").unlink()
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "step-00000020")
    assert barlowctl(["pretrain", "--resume", str(tmp_path / "run"), "--device", "cpu", "--threads", "1"]) == 0
    assert json.loads((tmp_path / "run" / "result.json").read_text())["steps"] == 20


def test_every_layer_of_a_run(copied: Path, recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The projector was on the CPU still, and the backbone said to show no layers."""
    assert on_card("probe", copied, "--layers", "--json") == 0
    layers = json.loads(capsys.readouterr().out)["layers"]
    assert layers["rows"][-1]["layer"] == "projector 2"


def test_a_report(copied: Path, recipe: Path) -> None:
    """Views are drawn by the loader of a run: on the GPU, where NumPy does not see them."""
    assert on_card("report", copied, "--quiet") == 0
    assert (copied / "report.html").stat().st_size > 10_000


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        ["--finetune", "--set", "epochs=1"],
        ["--finetune", "--finetune-protocol", "modern", "--set", "epochs=1"],
        ["--semi", "10", "--linear", "--protocol", "both", "--set", "epochs=1"],
        ["--pixels", "--random-init", "--knn", "--lidar"],
    ],
    ids=str,
)
def test_what_is_measured(copied: Path, recipe: Path, words: list[str]) -> None:
    assert on_card("probe", copied, "--quiet", *words) == 0


@pytest.mark.slow
def test_what_is_embedded(copied: Path, digits: Path, tmp_path: Path) -> None:
    images = digits / "digits" / "test.beton"
    for words in (
        ["--out", tmp_path / "x.npz"],
        ["--neighbours", "3", "--neighbours-out", tmp_path / "x.png"],
        ["--patches", tmp_path / "x.safetensors"],
    ):
        assert on_card("embed", copied, "--data", images, *words) == 0
    assert on_card("transfer", copied, "--task", "folder", "--data", digits / "digits", "--quiet") == 0


@pytest.mark.slow
@pytest.mark.parametrize("name", [*QUEUE, "byol", "vicreg", "simclr", "simsiam", "mixed-barlow-twins", "supervised"])
def test_a_run_of_each_method(recipe: Path, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    recipe.write_text(recipe.read_text().replace("[objective]\nlambd = 0.02\n", f'[objective]\nname = "{name}"\n'))
    words = ["--set", QUEUE[name]] if name in QUEUE else []
    assert on_card("pretrain", "--recipe", recipe, "--out", tmp_path / "run", *words) == 0
    assert "captured" not in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize(
    "key",
    [
        "train.micro_batch=32",
        "train.activation_checkpointing=true",
        "optimizer.clip_grad_norm=0.5",
        "optimizer.layer_decay=0.8",
        "optimizer.name=muon",
        "train.freeze_backbone_epochs=0.5",
        "views.small.count=2",
        "eval.lidar_images=20",
        "model.drop_path=0.1",
    ],
)
def test_a_run_with_each_setting(recipe: Path, tmp_path: Path, key: str) -> None:
    assert on_card("pretrain", "--recipe", recipe, "--out", tmp_path / "run", "--set", key, "--quiet") == 0
