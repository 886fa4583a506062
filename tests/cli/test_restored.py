"""A run whose files were damaged goes on where what is left of it lets it, and says what is lost."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from barlowctl.assemble.finished import open_run
from barlowctl.cli.app import run as barlowctl

Captured = pytest.CaptureFixture[str]
RESUME = ["pretrain", "--resume", "runs/stopped", "--threads", "1", "--quiet"]


def weights(run: Path) -> bytes:
    return (run / "checkpoints" / "step-00000020" / "model.safetensors").read_bytes()


@pytest.mark.parametrize("content", [None, "", "{", "[]"])
def test_a_run_without_its_run_json_goes_on_to_the_same_weights(
    stopped: Path, trained: Path, content: str | None, capsys: Captured
) -> None:
    if content is None:
        (stopped / "run.json").unlink()
    else:
        (stopped / "run.json").write_text(content)
    assert barlowctl(RESUME) == 2
    assert "next: barlowctl runs restore runs/stopped" in capsys.readouterr().err
    assert barlowctl(["runs", "restore", "runs/stopped"]) == 0
    assert "next: barlowctl pretrain --resume runs/stopped" in capsys.readouterr().out
    assert (stopped / "run-damaged.json").exists() == (content is not None)
    if content is not None:
        assert (stopped / "run-damaged.json").read_text() == content
    assert barlowctl(RESUME) == 0
    assert weights(stopped) == weights(trained)
    capsys.readouterr()
    assert barlowctl(["runs", "show", "stopped", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["state"], document["step"], document["total_steps"]) == ("finished", 20, 20)
    assert any("run.json was made anew" in notice for notice in document["notices"])
    before, after = (json.loads((run / "run.json").read_text()) for run in (trained, stopped))
    different = {"folder", "command", "started", "git", "launch", "restored"}
    assert {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)} <= different
    assert "restored" not in after


def test_a_run_json_is_not_made_of_another_recipe(stopped: Path, capsys: Captured) -> None:
    (stopped / "run.json").unlink()
    file = stopped / "recipe.toml"
    file.write_text(file.read_text().replace("epochs = 2", "epochs = 3"))
    assert barlowctl(["runs", "restore", "runs/stopped"]) == 2
    assert "is not the recipe that the checkpoints of 'runs/stopped' were trained with" in capsys.readouterr().err
    assert not (stopped / "run.json").exists()
    file.unlink()
    (stopped / "run.json").write_text("{")
    assert barlowctl(["runs", "restore", "runs/stopped"]) == 2
    assert "neither a whole run.json nor a recipe.toml" in capsys.readouterr().err


def test_runs_that_cannot_be_read_are_listed_with_what_is_wrong(stopped: Path, capsys: Captured) -> None:
    shutil.copytree(stopped, "runs/whole")
    (stopped / "run.json").unlink()
    assert barlowctl(["runs", "list", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [run["name"] for run in document["runs"]] == ["whole"]
    assert document["damaged"] == [{"path": "runs/stopped", "error": "'runs/stopped/run.json' is gone"}]
    assert barlowctl(["runs", "list"]) == 0
    assert "next: barlowctl runs restore runs/stopped" in capsys.readouterr().out


def test_a_damaged_result_is_made_again(trained: Path, recipe: Path, capsys: Captured) -> None:
    run = Path("runs/stopped")
    shutil.copytree(trained, run)
    (run / "result.json").write_text("{")
    assert barlowctl(["runs", "show", "runs/stopped"]) == 2
    assert "next: rm runs/stopped/result.json && barlowctl pretrain --resume runs/stopped" in capsys.readouterr().err
    (run / "result.json").unlink()
    assert barlowctl(RESUME) == 0
    before, after = (json.loads((folder / "result.json").read_text()) for folder in (trained, run))
    assert (before["loss"], before["knn"], before["steps"]) == (after["loss"], after["knn"], after["steps"])


@pytest.mark.parametrize("content", ["{", "{}", '{"run": "runs/stopped", "loss": 1.0}', "[]"])
def test_a_damaged_result_is_one_thing_to_every_command(
    trained: Path, stopped: Path, capsys: Captured, content: str
) -> None:
    """Not finished, and not to be gone on with before it is away."""
    (stopped / "result.json").write_text(content)
    for command in (["runs", "show"], ["report"], ["pretrain", "--resume"], ["runs", "compare", str(trained)]):
        assert barlowctl([*command, "runs/stopped"]) == 2
        error = capsys.readouterr().err
        assert "runs/stopped/result.json' is damaged: " in error
        assert re.search(r"next: rm .*runs/stopped/result.json && barlowctl pretrain --resume .*runs/stopped", error)
    assert barlowctl(["runs", "list", "--json"]) == 0
    assert [one["path"] for one in json.loads(capsys.readouterr().out)["damaged"]] == ["runs/stopped"]
    assert barlowctl(["probe"]) == 2
    assert "error: 'runs/stopped/result.json' is damaged: " in capsys.readouterr().err
    assert barlowctl(["probe", "runs/stopped", "--knn", "--threads", "1"]) == 0
    printed = "".join(capsys.readouterr())
    assert "note: whether the run is finished is not known, its result.json is damaged: this is step 10" in printed
    assert not open_run(stopped).finished


@pytest.mark.parametrize(("lines", "lost"), [(0, "steps 1 to 10"), (2, "steps 3 to 10"), (99, None)])
def test_records_that_are_lost_are_said(stopped: Path, capsys: Captured, lines: int, lost: str | None) -> None:
    file = stopped / "metrics.jsonl"
    records = [line for line in file.read_text().splitlines(keepends=True) if json.loads(line)["step"] <= 10]
    file.write_text("".join(records[:lines]))
    assert barlowctl([word for word in RESUME if word != "--quiet"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert ("metrics.jsonl lost records: " in text) == (lost is not None)
    if lost:
        assert f"{lost}, which were made, have no record" in text


def test_a_checkpoint_is_answered_with_its_run_and_with_a_start_from_it(stopped: Path, capsys: Captured) -> None:
    state = stopped / "checkpoints" / "step-00000010"
    assert barlowctl(["pretrain", "--resume", str(state)]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == f"error: '{state}' is a checkpoint of the run '{stopped}', which goes on from its newest one"
    assert lines[2].startswith("next: barlowctl pretrain --resume runs/stopped")
    assert lines[3] == f"next: barlowctl pretrain --recipe runs/stopped/recipe.toml --init {state}"
    assert barlowctl(["runs", "show", str(state)]) == 2
    assert "next: barlowctl runs show runs/stopped" in capsys.readouterr().err


def test_other_values_are_a_new_run_from_the_weights(stopped: Path, capsys: Captured) -> None:
    assert barlowctl([*RESUME, "--set", "train.epochs=3"]) == 2
    other = "next: barlowctl pretrain --recipe runs/stopped/recipe.toml --init runs/stopped --set train.epochs=3"
    assert other in capsys.readouterr().err.splitlines()
    shutil.rmtree(stopped / "checkpoints")
    assert barlowctl([*RESUME, "--set", "train.epochs=3"]) == 2
    assert "--init" not in capsys.readouterr().err  # there are none


def test_a_run_that_goes_on_in_another_way_says_so(stopped: Path, capsys: Captured) -> None:
    shutil.copytree(stopped, "runs/same")
    assert barlowctl(["pretrain", "--resume", "runs/stopped", "--threads", "1", "--loader", "plain"]) == 0
    assert "the plain loader in place of the fast one" in " ".join(capsys.readouterr().out.split())
    assert barlowctl(["pretrain", "--resume", "runs/same", "--threads", "1"]) == 0
    assert "in place of" not in capsys.readouterr().out
