"""`pretrain --init`: what a run starts from is put in, shown, recorded, named, and kept apart from `--resume`."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from barlowctl.assemble.finished import open_run
from barlowctl.assemble.job import prepare
from barlowctl.assemble.machine import Runtime
from barlowctl.assemble.weights import read_weights
from barlowctl.cli.app import run
from barlowctl.recipe import load
from barlowctl.runs import rundir

Captured = pytest.CaptureFixture[str]
ONE_EPOCH = ["--set", "train.epochs=1", "--set", "train.warmup_epochs=0", "--set", "train.batch_size=512"]


def output(capsys: Captured, arguments: list[str], code: int = 0) -> dict[str, Any]:
    capsys.readouterr()
    assert run([*arguments, "--json"]) == code
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    return document


def test_a_run_starts_from_another_ones_networks_and_says_so(recipe: Path, trained: Path, capsys: Captured) -> None:
    planned = output(capsys, ["pretrain", "-r", str(recipe), "--init", str(trained), "--dry-run", "--threads", "1"])
    start = planned["start"]
    assert (start["kind"], start["fresh"], start["left"], start["reshaped"]) == ("run", [], [], {})
    assert start["heads"] == {"projector": "taken"}
    assert len(start["taken"]) == len(open_run(trained).method.backbone.state_dict())
    assert "backbone: all 90 tensors; projector: taken" in planned["facts"]["start"]
    assert "of recipe and weights alike" in planned["facts"]["normalisation"]
    (checkpoint,) = sorted((trained / "checkpoints").iterdir())[-1:]
    of_checkpoint = read_weights(str(checkpoint))
    assert (of_checkpoint.kind, of_checkpoint.sha256) == ("run", start["sha256"])
    job = prepare(load.load(str(recipe), [f"init.weights={trained}", "seed=5"]), Runtime(threads=1))
    before = open_run(trained).method.state_dict()
    assert all(torch.equal(value, before[key]) for key, value in job.method.state_dict().items())


def test_a_run_keeps_its_start_and_goes_on_without_the_weights(
    recipe: Path, trained: Path, tmp_path: Path, capsys: Captured
) -> None:
    source = tmp_path / "source"
    shutil.copytree(trained, source)
    out = tmp_path / "runs" / "again"
    command = ["pretrain", "-r", str(recipe), *ONE_EPOCH, "--threads", "1"]
    assert run([*command, "--init", "source", "--out", str(out), "--quiet"]) == 0
    about = rundir.read_json(out / "run.json")
    saved = load.load(str(out / "recipe.toml"))
    assert about["start"]["sha256"] == saved.init.sha256
    assert saved.init.weights == str(source)
    assert about["facts"]["start"].startswith(f"{source} (run of resnet10t, sha256 {saved.init.sha256[:12]})")
    shutil.rmtree(source)
    (out / "result.json").unlink()
    assert run(["pretrain", "--resume", str(out), "--threads", "1", "--quiet"]) == 0
    shutil.rmtree(out / "checkpoints")
    (out / "result.json").unlink()
    error = output(capsys, ["pretrain", "--resume", str(out), "--threads", "1"], 2)
    assert "has no checkpoint" in error["error"]
    assert "does not exist" in error["error"]


def test_init_and_resume_exclude_each_other(recipe: Path, trained: Path, capsys: Captured) -> None:
    error = output(capsys, ["pretrain", "--resume", str(trained), "--init", str(trained)], 2)
    assert "--init and --resume exclude each other" in error["error"]
    assert error["next"] == f"barlowctl pretrain --resume {trained} --json"


def test_init_that_names_nothing_is_refused(recipe: Path, capsys: Captured) -> None:
    error = output(capsys, ["pretrain", "-r", str(recipe), "--init", ""], 2)
    assert "--init is empty" in error["error"]


def test_exports_of_a_run_name_what_it_started_from(recipe: Path, trained: Path, tmp_path: Path) -> None:
    from safetensors import safe_open

    run_directory = tmp_path / "started"
    shutil.copytree(trained, run_directory)
    text = load.dump(load.override(load.load(str(trained / "recipe.toml")), ["init.weights=runs/first"]))
    (run_directory / "recipe.toml").write_text(text.replace('sha256 = ""', f'sha256 = "{"5" * 64}"'))
    assert run(["export", str(run_directory), "--out", "model.safetensors", "--quiet"]) == 0
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        metadata = file.metadata()
    assert (metadata["init"], metadata["init_sha256"]) == ("runs/first", "5" * 64)
    assert read_weights("model.safetensors").source["init"] == "runs/first"


def test_a_recipe_names_its_start_for_every_command_that_compares_recipes(recipe: Path, capsys: Captured) -> None:
    with_start = recipe.with_name("with-start.toml")
    with_start.write_text(recipe.read_text() + '[init]\nweights = "photos.safetensors"\n')
    assert run(["recipes", "diff", str(recipe), str(with_start)]) == 0
    assert "init.weights" in capsys.readouterr().out
    assert load.digest(load.load(str(recipe))) != load.digest(load.load(str(with_start)))


def test_a_slurm_job_starts_from_the_weights(recipe: Path, trained: Path, capsys: Captured) -> None:
    arguments = ["--init", os.path.relpath(trained), "--print-sbatch", "--gpus", "1"]
    assert run(["pretrain", "-r", str(recipe), *arguments]) == 0
    script = capsys.readouterr().out
    assert f"""--set 'init.weights="{trained}"'""" in script.splitlines()[-1] or f'init.weights="{trained}"' in script


def test_a_recipe_that_is_named_again_for_a_run_may_name_its_start_again(
    recipe: Path, trained: Path, tmp_path: Path, capsys: Captured
) -> None:
    begun = load.override(load.load(str(recipe)), [f"init.weights={trained}"])
    noted = begun.model_copy(
        update={
            "init": begun.init.model_copy(update={"sha256": "5" * 64}),
            "views": begun.views.model_copy(update={"mean": (0.9,)}),
        }
    )
    assert load.as_begun(begun, noted) == noted
    pinned = load.override(begun, [f"init.sha256={'a' * 64}"])
    assert load.as_begun(pinned, noted).init.sha256 == "a" * 64
    other = load.override(begun, ["init.weights=elsewhere"])
    assert load.as_begun(other, noted) == other


@pytest.mark.slow
def test_a_study_varies_the_start_and_its_cells_go_on_without_the_weights(
    recipe: Path, trained: Path, tmp_path: Path, capsys: Captured
) -> None:
    shutil.copytree(trained, tmp_path / "source")
    grid = tmp_path / "starts.toml"
    grid.write_text('[baseline]\n[from-a-run]\n"init.weights" = "./source"\n')
    command = ["ablate", "--grid", str(grid), "--recipe", str(recipe), "--out", "study", "--seeds", "1", *ONE_EPOCH]
    assert run([*command, "--threads", "1", "--quiet"]) == 0
    cells = {bool(load.load(str(file)).init.weights): file.parent for file in Path("study").rglob("recipe.toml")}
    assert "start" not in rundir.read_json(cells[False] / "run.json")
    started = rundir.read_json(cells[True] / "run.json")["start"]
    assert load.load(str(cells[True] / "recipe.toml")).init.sha256 == started["sha256"]
    shutil.rmtree(tmp_path / "source")
    for file in (cells[True] / "result.json", *cells[True].glob("cell*.json"), *cells[True].glob("record*.json")):
        file.unlink(missing_ok=True)
    assert run([*command, "--threads", "1", "--quiet"]) == 0
    assert (cells[True] / "result.json").is_file()
