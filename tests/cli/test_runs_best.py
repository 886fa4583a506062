"""`barlowctl runs best`: the run, the epoch and the weights that a measure chooses, and what it says it cannot know."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from barlowctl.cli.app import run as barlowctl
from barlowctl.eval import diagnostics

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def home(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A runs home with copies of a finished run, `a` and `b`, of 20 steps with checkpoints at 10 and 20."""
    home = tmp_path / "runs"
    for name in ("a", "b"):
        shutil.copytree(trained, home / name)
    monkeypatch.setenv("BARLOWCTL_RUNS", str(home))
    monkeypatch.chdir(tmp_path)
    return home


def write(run: Path, **curves: list[float | None]) -> None:
    """Evaluations after steps 10, 20, ... with these values; None: the evaluation lacks the measure."""
    lines = []
    for number in range(max(map(len, curves.values()))):
        values = {key: curve[number] for key, curve in curves.items() if curve[number] is not None}
        lines.append({"event": "evaluation", "step": 10 * (number + 1), "epoch": number, **values})
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def document(capsys: Captured, *arguments: str) -> dict[str, Any]:
    assert barlowctl(["runs", "best", *arguments, "--json"]) == 0
    result: dict[str, Any] = json.loads(capsys.readouterr().out)
    return result


def test_the_best_epoch_of_the_best_run_with_its_weights(home: Path, capsys: Captured) -> None:
    write(home / "a", knn=[50.0, 60.0], alpha=[0.9, 1.2], rankme=[9.0, 8.0])
    write(home / "b", knn=[70.0, 65.0], alpha=[3.0, 0.95], rankme=[7.0, 10.0])
    result = document(capsys)
    assert (result["by"], result["rule"]) == ("knn", "the highest")
    first = home / "b" / "checkpoints" / "step-00000010"
    best = result["best"]
    assert (best["run"], best["epoch"], best["step"], best["knn"]) == ("b", 1, 10, 70.0)
    assert (best["weights"], best["ties"]) == (str(first), [])
    assert result["next"] == [f"barlowctl export {first}", f"barlowctl probe {first}"]
    assert [row["run"] for row in result["runs"]] == ["b", "a"]
    by_alpha = document(capsys, "--by", "alpha")
    assert by_alpha["rule"] == "the nearest to 1"
    assert [(row["run"], row["epoch"], row["alpha"]) for row in by_alpha["runs"]] == [("b", 2, 0.95), ("a", 1, 0.9)]
    newest = document(capsys, "b", "--by", "rankme")
    assert newest["next"][0] == f"barlowctl export {home / 'b'}"  # the newest checkpoint is the run's


def test_the_weights_that_it_names_are_exported_and_measured(
    home: Path, digits: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    from safetensors.torch import load_file

    monkeypatch.setenv("BARLOWCTL_DATA", str(digits))
    write(home / "a", knn=[70.0, 65.0])
    state = Path(document(capsys, "a")["best"]["weights"])
    assert barlowctl(["export", str(state), "--json"]) == 0
    exported = json.loads(capsys.readouterr().out)
    assert Path(exported["path"]).name == "a-step-00000010-timm.safetensors"
    weights, saved = load_file(exported["path"]), load_file(state / "model.safetensors")
    assert all(value.equal(saved[f"backbone.{name}"]) for name, value in weights.items())
    assert barlowctl(["probe", "a/checkpoints/step-00000010", "--knn", "--json", "--threads", "1"]) == 0
    probed = json.loads(capsys.readouterr().out)
    assert (probed["step"], Path(probed["run"]).resolve()) == (10, (home / "a").resolve())
    assert probed["identity"]["weights"] != identity_of_newest(home / "a", capsys)


def identity_of_newest(run: Path, capsys: Captured) -> str:
    assert barlowctl(["probe", str(run), "--knn", "--json", "--threads", "1"]) == 0
    return str(json.loads(capsys.readouterr().out)["identity"]["weights"])


def test_a_run_that_keeps_its_best_state_and_stops_early(
    recipe: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    course = iter([1.5, 0.9, 3.0, 1.0])
    monkeypatch.setattr(diagnostics, "spectrum_decay", lambda features: next(course))
    select = [f"--set=train.{value}" for value in ("keep_best=alpha", "stop=alpha", "stop_after=1", "epochs=4")]
    train = ["pretrain", "--recipe", str(recipe), "--out", "runs/x", "--threads", "1", *select]
    assert barlowctl([*train, "--set=train.keep_checkpoints=1", "--set=eval.queries=off", "--json"]) == 0
    captured = capsys.readouterr()
    assert "best state: alpha 0.9 after epoch 2 (step 20); `export --best` takes it" in captured.err
    result = json.loads(captured.out)
    assert (result["steps"], result["epochs"]) == (30, 3)
    assert result["best"] == {"by": "alpha", "value": 0.9, "step": 20, "epoch": 2}
    assert result["stopped_early"].startswith("alpha has not improved for 1 evaluation; the best, 0.9, was after")
    assert probed_next(Path("runs/x")) == str(Path("runs/x/checkpoints/step-00000020"))  # what `export --best` takes
    assert barlowctl(["export", "runs/x", "--best", "--json"]) == 0
    assert Path(json.loads(capsys.readouterr().out)["path"]).name == "x-step-00000020-timm.safetensors"
    assert barlowctl(["runs", "show", "runs/x"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "finished early, step 30 of 40: alpha has not improved" in printed
    assert "best state alpha 0.9 after epoch 2 (step 20)" in printed


def probed_next(run: Path) -> str:
    """What a finished run says to measure next."""
    from barlowctl.assemble.data import open_recipe_images
    from barlowctl.assemble.next_commands import next_commands
    from barlowctl.assemble.run_images import dataset_to_measure
    from barlowctl.assemble.run_recipe import recipe_of

    recipe = recipe_of(run)
    command = next_commands(run, recipe, open_recipe_images(recipe, "train", dataset_to_measure(run, recipe))).commands
    assert command[0].startswith("barlowctl probe ")
    return command[0].removeprefix("barlowctl probe ")


def test_a_run_that_keeps_no_best_state_names_what_does(home: Path, capsys: Captured) -> None:
    assert barlowctl(["export", str(home / "a"), "--best"]) == 2
    error = capsys.readouterr().err
    assert "its train.keep_best is off" in error
    assert f"next: barlowctl runs best {home / 'a'}" in error


def test_a_measure_that_the_run_does_not_make_is_refused(recipe: Path, capsys: Captured) -> None:
    for key, needs in (("keep_best=lidar", "eval.lidar_images = 1000"), ("stop=rankme", "eval.every_epochs above 0")):
        sets = [f"--set=train.{key}", "--set=eval.every_epochs=0"]
        assert barlowctl(["pretrain", "--recipe", str(recipe), "--dry-run", *sets]) == 2
        assert needs in capsys.readouterr().err


def test_a_run_that_cannot_be_read_is_left_out_by_name(home: Path, capsys: Captured) -> None:
    write(home / "a", knn=[50.0, 60.0])
    (home / "b" / "run.json").write_text("{")
    result = document(capsys)
    assert [row["run"] for row in result["runs"]] == ["a"]
    (note,) = [note for note in result["notes"] if note.startswith("left out: ")]
    assert str(home / "b" / "run.json") in note


def test_ties_missing_measures_and_missing_weights_are_said(home: Path, capsys: Captured) -> None:
    write(home / "a", knn=[80.0, 70.0, 80.0], lidar=[5.0, None, 5.5])
    write(home / "b", knn=[None, 80.0])
    shutil.rmtree(home / "a" / "checkpoints" / "step-00000010")
    result = document(capsys, "a", "b")
    assert [(row["run"], row["step"], row["ties"]) for row in result["runs"]] == [("a", 10, [30]), ("b", 20, [])]
    assert result["best"]["weights"] is None
    assert result["best"]["best_stored"] == {
        "step": 20, "knn": 70.0, "weights": str(home / "a" / "checkpoints" / "step-00000020"),
    }  # fmt: skip
    assert result["notes"][:2] == ["a: as good at step 30", "as good as a: b"]
    assert 'train.keep_best = "knn"' in result["notes"][2]
    result = document(capsys, "--by", "lidar")
    assert result["not_measured"] == ["b"]
    assert "lidar is not measured in b (measured by: eval.lidar_images = 1000)" in result["notes"]
    # of several evaluations that are as good, one whose weights are there
    write(home / "b", knn=[80.0, 80.0])
    shutil.rmtree(home / "b" / "checkpoints" / "step-00000010")
    assert (document(capsys, "b")["best"]["step"], document(capsys, "b")["best"]["ties"]) == (20, [10])


def test_weights_that_were_better_before_training_are_named(home: Path, capsys: Captured) -> None:
    """The evaluation of step 0 is of what a run started from; no checkpoint has that, and none is promised."""
    write(home / "a", knn=[60.0, 70.0])
    metrics = home / "a" / "metrics.jsonl"
    start = {"event": "evaluation", "step": 0, "epoch": -1, "knn": 80.0}
    metrics.write_text(json.dumps(start) + "\n" + metrics.read_text())
    about = json.loads((home / "a" / "run.json").read_text())
    about["recipe"]["init"] = {"weights": "runs/source"}
    (home / "a" / "run.json").write_text(json.dumps(about))
    result = document(capsys, "a")
    best = result["best"]
    assert (best["step"], best["epoch"], best["weights"], best["start"]) == (0, 0, None, "runs/source")
    assert best["best_stored"]["step"] == 20
    assert result["notes"] == [
        "a was best before its first step: the weights are those it began with, runs/source; no state that it trained "
        "is better"
    ]
    assert result["next"][0] == f"barlowctl export {home / 'a'}"  # the best of what it trained, its newest state
    assert barlowctl(["runs", "best", "a"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "its start, runs/source; best of its checkpoints: step-00000020 (70)" in printed
    saved = home / "a" / "checkpoints" / "step-00000000"  # with train.keep_best
    shutil.copytree(saved.with_name("step-00000010"), saved)
    again = document(capsys, "a")
    assert (again["best"]["weights"], again["best"]["start"], again["notes"]) == (str(saved), None, [])
    assert again["next"][0] == f"barlowctl export {saved}"


def test_values_that_are_not_on_one_scale_are_said(home: Path, capsys: Captured) -> None:
    for name in ("a", "b"):
        write(home / name, knn=[50.0, 60.0], rankme=[9.0, 8.0])
    about = json.loads((home / "b" / "run.json").read_text())
    about["recipe"]["model"]["projector"] = [64, 32]
    (home / "b" / "run.json").write_text(json.dumps(about))
    assert document(capsys, "a", "b")["notes"] == ["as good as a: b"]
    assert document(capsys, "a", "b", "--by", "rankme")["notes"][1] == (
        "the values are not on one scale, model.projector differs: a [64, 64], b [64, 32]"
    )
    (home / "b" / "run.json").write_text(json.dumps(about | {"data": {}}))
    assert document(capsys, "a", "b")["notes"][1] == (
        "the values are not on one scale, images differ: a 0d612e8b, b not noted"
    )


def test_weights_that_are_damaged_are_not_advised(home: Path, capsys: Captured) -> None:
    """A size that is wrong is seen in all runs; of the weights that are advised, every byte is read."""
    write(home / "a", knn=[60.0, 50.0])
    write(home / "b", knn=[70.0, 65.0])
    first, second = (home / "b" / "checkpoints" / f"step-{step:08d}" for step in (10, 20))
    weights = first / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1])
    result = document(capsys)
    assert result["best"]["damaged"] == {first.name: "model.safetensors was altered or cut short"}
    assert (result["best"]["weights"], result["best"]["best_stored"]["step"]) == (None, 20)
    assert result["next"][0] == f"barlowctl export {home / 'b'}"
    assert result["notes"] == [
        f"checkpoint {first.name} of b is not usable (model.safetensors was altered or cut short)"
    ]
    weights.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))  # of the same size
    assert document(capsys)["next"] == result["next"]
    (second / "state.json").write_text("{")
    (second / "model.safetensors").unlink()
    other = home / "a" / "checkpoints" / first.name
    assert document(capsys)["next"][0] == f"barlowctl export {other}"
    shutil.rmtree(second)
    weights.unlink()
    assert barlowctl(["runs", "best"]) == 0
    printed = capsys.readouterr().out
    assert f"checkpoint {first.name} of b is not usable (model.safetensors is not there)" in printed
    assert f"next: barlowctl export {other}" in printed


def test_a_measure_that_nobody_has_is_refused_with_one_that_somebody_has(home: Path, capsys: Captured) -> None:
    write(home / "a", knn=[50.0, float("nan")])
    write(home / "b", feature_spread=[0.1])
    assert barlowctl(["runs", "best", "--by", "linear"]) == 2
    error = capsys.readouterr().err
    assert "linear is not measured in " in error
    assert "eval.linear = true" in error
    assert "next: barlowctl runs best --by knn" in error
    assert barlowctl(["runs", "best", "b"]) == 2
    assert "no evaluation is recorded in b" in capsys.readouterr().err
