"""A run that goes on may write and keep its checkpoints otherwise: nothing that is trained depends on it."""

from __future__ import annotations

import json
import shlex
import shutil
from contextlib import nullcontext
from pathlib import Path

import pytest

import barlowctl
from barlowctl.api import wording
from barlowctl.assemble import launch
from barlowctl.cli.app import run as command
from barlowctl.recipe import load, saving

Captured = pytest.CaptureFixture[str]
RESUME = ["pretrain", "--resume", "runs/stopped", "--threads", "1"]
OTHERWISE = ["--set", "train.checkpoint_every_steps=4", "--set", "train.keep_checkpoints=9"]


def names(run: Path) -> list[str]:
    return sorted(path.name for path in (run / "checkpoints").iterdir())


def weights(run: Path) -> bytes:
    return (run / "checkpoints" / "step-00000020" / "model.safetensors").read_bytes()


def test_checkpoints_are_written_and_kept_otherwise_and_the_weights_are_the_same(
    stopped: Path, trained: Path, capsys: Captured
) -> None:
    recipe, about = (stopped / "recipe.toml").read_bytes(), json.loads((stopped / "run.json").read_text())
    assert command([*RESUME, *OTHERWISE]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    for key, now, before in (("checkpoint_every_steps", 4, 0), ("keep_checkpoints", 9, 2)):
        assert f"train.{key} is {now} until this process ends, and {before} in the run's recipe.toml" in printed
    assert names(stopped) == [f"step-{step:08}" for step in (10, 12, 16, 20)]
    assert weights(stopped) == weights(trained)
    assert (stopped / "recipe.toml").read_bytes() == recipe
    after = json.loads((stopped / "run.json").read_text())
    assert [after[key] for key in ("recipe", "recipe_digest")] == [about[key] for key in ("recipe", "recipe_digest")]
    states = [json.loads((folder / "state.json").read_text()) for folder in (stopped / "checkpoints").iterdir()]
    assert {state["body"]["recipe_digest"] for state in states} == {about["recipe_digest"]}
    notices = [json.loads(line)["text"] for line in (stopped / "notices.jsonl").read_text().splitlines()]
    assert sum("until this process ends" in text for text in notices) == 2


def test_the_next_time_it_goes_on_as_it_began(stopped: Path, trained: Path, capsys: Captured) -> None:
    shutil.rmtree(stopped / "checkpoints")
    assert command([*RESUME, *OTHERWISE]) == 0
    assert names(stopped) == [f"step-{step:08}" for step in (4, 8, 10, 12, 16, 20)]
    (stopped / "result.json").unlink()
    for step in (12, 16, 20):
        shutil.rmtree(stopped / "checkpoints" / f"step-{step:08}")
    capsys.readouterr()
    assert command(RESUME) == 0
    assert "until this process ends" not in capsys.readouterr().out
    assert names(stopped) == ["step-00000010", "step-00000020"]
    assert weights(stopped) == weights(trained)


def test_the_line_that_goes_on_after_such_a_process_has_them(stopped: Path, capsys: Captured) -> None:
    """Without them it would stop at the same image again."""
    about = json.loads((stopped / "run.json").read_text())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(launch, "stop_requests", lambda: nullcontext(lambda: True))
        assert command([*RESUME, "--set", "data.on_unreadable=replace", "--set", "train.keep_checkpoints=9"]) == 3
    flags = "--set data.on_unreadable=replace --set train.keep_checkpoints=9"
    line = f"barlowctl pretrain --resume runs/stopped --threads 1 {flags}"
    assert f"next: {line}\n" in capsys.readouterr().err
    assert command(["runs", "show", "runs/stopped"]) == 0
    assert line in capsys.readouterr().out
    assert wording.advice(line) == (
        "barlowctl.pretrain(resume='runs/stopped', threads=1, "
        "overrides={'data.on_unreadable': 'replace', 'train.keep_checkpoints': 9})"
    )
    assert command(shlex.split(line)[1:]) == 0
    after = json.loads((stopped / "run.json").read_text())
    assert after["recipe"] == about["recipe"]


def test_so_does_a_run_that_started_from_other_weights(trained: Path, recipe: Path, capsys: Captured) -> None:
    new = ["pretrain", "--recipe", str(recipe), "--init", str(trained), "--out", "runs/stopped", "--threads", "1"]
    assert command(new) == 0
    run = Path("runs/stopped")
    expected = weights(run)
    (run / "result.json").unlink()
    shutil.rmtree(run / "checkpoints" / "step-00000020")
    assert command([*RESUME, *OTHERWISE]) == 0
    assert "train.keep_checkpoints is 9" in " ".join(capsys.readouterr().out.split())
    assert names(run) == [f"step-{step:08}" for step in (10, 12, 16, 20)]
    assert weights(run) == expected


def test_what_decides_the_result_is_refused_beside_it(stopped: Path, capsys: Captured) -> None:
    assert command([*RESUME, *OTHERWISE, "--set", "train.epochs=3"]) == 2
    err = capsys.readouterr().err
    assert "train.epochs: 2 in the run, 3 now" in err
    assert "keep_checkpoints" not in err.split("allowed:")[0]
    assert names(stopped) == ["step-00000010"]


def test_the_same_from_python(stopped: Path, trained: Path) -> None:
    run = barlowctl.pretrain(resume=stopped, threads=1, overrides={"train.keep_checkpoints": 1})
    assert names(stopped) == ["step-00000020"]
    assert weights(stopped) == weights(trained)
    assert any("train.keep_checkpoints is 1" in notice for notice in run.notices)
    with pytest.raises(barlowctl.UserError, match="keeps its recipe") as refused:
        barlowctl.pretrain(resume=stopped, overrides={"train.keep_checkpoints": 1, "train.epochs": 3})
    assert all(key in str(refused.value.allowed) for key in saving.KEYS)


def test_these_keys_are_a_recipes() -> None:
    flat = load.flatten(load.load("quickstart"))
    assert set(saving.KEYS) <= set(flat)
