"""`barlowctl ablate`: the plan, a small real study, killing and resuming it, several processes, and refusals."""

from __future__ import annotations

import json
import os
import re
import runpy
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from barlowctl.cli.app import run as barlowctl
from barlowctl.cores import usable_cores
from barlowctl.errors import UserError

Captured = pytest.CaptureFixture[str]
SHORT = ("--set", "train.epochs=1", "--set", "eval.every_epochs=0", "--set", "data.holdout=400",
         "--set", "eval.queries=off", "--threads", "1")  # fmt: skip


@pytest.fixture
def grid(tmp_path: Path) -> Path:
    file = tmp_path / "mine.toml"
    file.write_text('[baseline]\n[same]\n"model.projector" = [64, 64]\n[narrow]\n"model.projector" = [16, 16]\n')
    return file


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('"model.backbone" = "resnet1801"', r"timm \S+ has no model named 'resnet1801'"),
        ('"views.size" = "big"', "views.size is 'big'"),
    ],
)
@pytest.mark.parametrize("flags", [["--dry-run"], []])
def test_a_variant_that_is_no_recipe_is_named_before_anything_is_timed_or_made(
    recipe: Path, tmp_path: Path, capsys: Captured, line: str, message: str, flags: list[str]
) -> None:
    Path("odd.toml").write_text(f"[baseline]\n[odd]\n{line}\n")
    command = ["ablate", "--grid", "odd.toml", "--recipe", str(recipe), "--out", "study", *SHORT, *flags]
    assert barlowctl(command) == 2
    printed = capsys.readouterr()
    assert re.search(f"^error: odd.toml, variant 'odd': {message}", printed.err)
    assert printed.err.endswith("next: correct [odd] of odd.toml\n")
    assert printed.out == ""
    assert not Path("study").exists()
    assert barlowctl([*command, "--set", "model.backbone=resnet1801"]) == 2
    assert capsys.readouterr().err.startswith(("error: timm ", "error: odd.toml, variant 'odd': views"))


def document(capsys: Captured) -> dict[str, Any]:
    parsed: dict[str, Any] = json.loads(capsys.readouterr().out)
    return parsed


def test_drop_aug_as_it_stands_says_what_is_missing(recipe: Path, capsys: Captured) -> None:
    assert barlowctl(["ablate", "--drop-aug"]) == 2
    assert "barlowctl data pack" in capsys.readouterr().err


def test_the_plan_lists_the_variants_and_what_they_cost(recipe: Path, capsys: Captured, tmp_path: Path) -> None:
    command = ["ablate", "--drop-aug", "--batch-size", "--only", "crop-only,no-color,256", "--recipe", str(recipe)]
    assert barlowctl([*command, "--seeds", "3", "--dry-run", "--json", "--threads", "1", "--parallel", "2"]) == 0
    plan = document(capsys)
    drop, batch = plan["studies"]
    assert [variant["name"] for variant in drop["variants"]] == ["baseline", "no-color", "crop-only"]
    assert [variant["name"] for variant in batch["variants"]] == ["128", "256"]
    # crop-only is no-color here (no flip, no blur), and batch 128 is the recipe's own
    assert plan["cells"] == 3 * 3
    assert plan["recipe_name"] == "digits"
    assert "recipe" not in plan  # `recipe` is all values, in every document
    assert all(variant["seconds"]["train"] > 0 for variant in drop["variants"])
    assert plan["wall_seconds"] == pytest.approx(plan["seconds"] / min(2, usable_cores()))
    assert 0 < plan["cpu_seconds"] <= 1.5 * plan["seconds"]  # one thread, and a loader beside it
    assert not (tmp_path / "studies").exists()


def test_the_plan_refuses_what_the_study_would(recipe: Path, capsys: Captured) -> None:
    plan = ["ablate", "--batch-size", "--recipe", "digits.toml", "--dry-run", "--threads", "1"]
    assert barlowctl([*plan, "--set", "data.holdout=8000", "--set", "eval.queries=off"]) == 2
    error = capsys.readouterr().err
    assert "data.holdout is 8000 of 1,400 images" in error
    assert re.search(r"^next: barlowctl ablate --batch-size .* --set data.holdout=140$", error, re.MULTILINE)
    assert barlowctl([*plan, "--without", "128"]) == 2
    error = capsys.readouterr().err
    assert "variant '2048': the data has 1,300 images" in error
    assert re.search(r"^next: .* --without 128,2048,4096$", error, re.MULTILINE)  # and what was left out before
    assert barlowctl([*plan, "--without", "128,256,512,1024,2048,4096"]) == 2
    error = capsys.readouterr().err
    assert "--without leave no variant to train\nallowed: 128, 256, 512, 1024, 2048, 4096\n" in error
    assert re.search(
        r"^next: barlowctl ablate --batch-size --recipe digits.toml --dry-run --threads 1$", error, re.MULTILINE
    )
    shutil.copytree(Path(os.environ["BARLOWCTL_DATA"]) / "digits", "half")
    Path("half/test.beton").unlink()
    assert barlowctl([*plan, "--data", "./half", "--without", "2048,4096"]) == 2  # nothing to measure cells on
    assert "'half' has no test split" in capsys.readouterr().err


def test_a_study_of_which_nothing_is_left_is_named(recipe: Path, capsys: Captured) -> None:
    command = ["ablate", "--batch-size", "--loss", "--only", "256", "--recipe", str(recipe), "--dry-run"]
    assert barlowctl(command) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "note: the study loss is left out: --only leaves none of its variants" in printed
    assert barlowctl([*command[:-1], "--print-sbatch"]) == 0
    assert "note: " not in capsys.readouterr().out


@pytest.mark.parametrize("flag", ["--only", "--without"])
def test_commas_alone_name_no_variants(flag: str, recipe: Path, capsys: Captured) -> None:
    """They meant all of them, or none that is left out."""
    assert barlowctl(["ablate", "loss", "--recipe", "digits.toml", "--dry-run", flag, ","]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {flag} is ','")
    assert error.endswith("next: barlowctl ablate loss --recipe digits.toml --dry-run\n")


@pytest.mark.parametrize("budget", [[], ["--budget", "steps=4"]])
def test_a_plan_of_variants_that_cannot_be_trained_does_not_leave_all_of_them_out(
    budget: list[str], recipe: Path, grid: Path, capsys: Captured
) -> None:
    grid.write_text('[baseline]\n"train.batch_size" = 2048\n[larger]\n"train.batch_size" = 4096\n')
    plan = ["ablate", "--grid", str(grid), "--recipe", "digits.toml", "--dry-run", "--threads", "1", *budget]
    assert barlowctl(plan) == 2
    error = capsys.readouterr().err
    assert "variant 'baseline': " in error
    assert error.endswith("next: name a folder with more images, or a data set of the data home, with --data\n")


def test_a_study_is_trained_measured_drawn_and_resumed(
    recipe: Path, grid: Path, tmp_path: Path, capsys: Captured
) -> None:
    command = ["ablate", "--grid", str(grid), "--recipe", str(recipe), "--out", "study", *SHORT]
    assert barlowctl([*command, "--show"]) == 2
    assert "nothing of this is finished" in capsys.readouterr().err
    assert barlowctl([*command, "--json"]) == 0
    first = document(capsys)
    rows = {row["variant"]: row for row in first["studies"][0]["rows"]}
    assert first["cells"] == 2
    assert rows["same"]["same_as"] == "baseline"
    assert rows["same"]["knn"] == rows["baseline"]["knn"]
    assert rows["same"]["notes"] == []
    for row in rows.values():
        assert 0.0 < row["knn"] <= 100.0
        assert 1.0 < row["effective_rank"] < 33.0
        assert 0.0 < row["feature_spread"] <= 1.01
        assert -1.0 < row["mean_diagonal"] < 1.0
        assert 0.0 < row["rms_off_diagonal"] < 1.0
    assert {Path(file).name for file in first["files"]} == {
        f"mine.{end}" for end in ("json", "csv", "md", "tex", "png", "svg", "pdf")
    }
    assert all(Path(file).is_file() for file in first["files"])
    finished = {path: path.stat().st_mtime_ns for path in (tmp_path / "study").rglob("*.safetensors")}
    assert barlowctl([*command, "--json", "--seeds", "2"]) == 0
    second = document(capsys)
    assert [row["finished"] for row in second["studies"][0]["rows"]] == [[0, 1]] * 3
    assert second["studies"][0]["rows"][0]["knn_sd"] is not None
    assert {path: path.stat().st_mtime_ns for path in finished} == finished  # nothing was trained again
    # a plan of what is finished takes its costs from there, and there is nothing to submit
    assert barlowctl([*command, "--seeds", "2", "--dry-run", "--json"]) == 0
    plan = document(capsys)
    assert (plan["finished"], plan["seconds"]) == (4, 0)
    assert "2 finished cells" in plan["studies"][0]["variants"][0]["seconds"]["source"]
    assert barlowctl([*command, "--seeds", "2", "--print-sbatch"]) == 2
    assert "all cells" in capsys.readouterr().err
    assert barlowctl([*command, "--seeds", "3", "--print-sbatch", "--slurm-option", "time=2:00:00"]) == 0
    script = capsys.readouterr().out
    assert "#SBATCH --array=4-5\n" in script
    assert "#SBATCH --time=2:00:00\n" in script
    # the line that a task runs is a command that runs
    line = next(line for line in script.splitlines() if line.startswith("srun"))
    words = line.removeprefix("srun ").replace('"$SLURM_ARRAY_TASK_ID"', "4")
    program, *arguments = shlex.split(words)
    assert (program, arguments[:2]) == (sys.executable, ["-m", "barlowctl"])
    assert barlowctl(arguments[2:]) == 0
    assert len(list((tmp_path / "study" / "cells").rglob("cell.json"))) == 5
    # a study of another recipe has another directory
    assert barlowctl([*command, "--set", "train.epochs=2"]) == 2
    assert "another recipe" in capsys.readouterr().err


@pytest.mark.slow
def test_the_early_look_takes_the_cells_own_first_steps(recipe: Path, checkout: Path, tmp_path: Path) -> None:
    """docs/study/early.py: at the cell's last step it finds what the cell found, and earlier something else."""
    variants = ("--loss", "--only", "baseline,only-invariance", "--set", "train.cpu_threads=1")
    assert barlowctl(["ablate", *variants, "--recipe", str(recipe), "--out", "study", *SHORT, "--quiet"]) == 0
    cells = {cell["variant"]: (cell, file) for file in Path("study").rglob("cell.json") if (cell := read(file))}
    steps = read(cells["baseline"][1].with_name("result.json"))["steps"]
    early = runpy.run_path(str(checkout / "docs" / "study" / "early.py"))["main"]
    for at in (steps, steps - 3):
        early(["study", str(at)])
        for variant, (cell, file) in cells.items():
            document = read(file.with_name("early.json"))
            assert document["steps"] == at
            same = {
                key: document["after"][key] == pytest.approx(cell["measures"][key], rel=1e-6)
                for key in document["after"]
            }
            assert same["mean_diagonal"] == same["rms_off_diagonal"] == (at == steps)
            assert all(same.values()) == (at == steps)
            assert ("before" in document) == (variant == "baseline")
    with pytest.raises(SystemExit, match=f"ended after {steps} steps"):
        early(["study", str(steps + 1)])


def test_all_variants_start_from_weights(
    recipe: Path, grid: Path, trained: Path, tmp_path: Path, capsys: Captured
) -> None:
    """As `pretrain --init` starts from them, except for heads, which would fit some variants and not others."""
    source = tmp_path / "source"
    shutil.copytree(trained, source)
    command = ["ablate", "--grid", str(grid), "--recipe", str(recipe), "--out", "study", *SHORT]
    command += ["--only", "narrow", "--init", "source"]
    assert barlowctl([*command, "--dry-run", "--json"]) == 0
    plan = document(capsys)
    assert (plan["cells"], plan["start"]) == (2, str(source))
    assert barlowctl([*command, "--print-sbatch"]) == 0
    assert f"--init {source} " in capsys.readouterr().out  # a task may be started in another folder
    assert barlowctl([*command, "--cell", "1", "--set", "train.freeze=backbone", "--out", "frozen"]) == 0
    (run,) = (tmp_path / "frozen" / "cells").glob("narrow-*/seed-0")
    start = read(run / "run.json")["start"]
    assert (start["weights"], start["fresh"], start["heads"]) == (str(source), [], {"projector": "init.heads is false"})
    backbones = [
        {key: value for key, value in load_file(newest / "model.safetensors").items() if key.startswith("backbone.")}
        for newest in (sorted((of / "checkpoints").glob("step-*"))[-1] for of in (source, run))
    ]
    assert all(torch.equal(value, backbones[1][key]) for key, value in backbones[0].items())
    # the study's own recipe goes on without the weights; other weights in their place are another study
    assert start["sha256"] in (tmp_path / "study" / "recipe.toml").read_text()
    again = ["ablate", "--grid", str(grid), "--recipe", "study/recipe.toml", "--out", "study", "--threads", "1"]
    newest = sorted((source / "checkpoints").glob("step-*"))[-1]
    shutil.rmtree(newest)
    capsys.readouterr()
    assert barlowctl([*again, "--only", "narrow", "--dry-run", "--json"]) == 0
    assert document(capsys)["cells"] == 2


def test_weights_of_a_study_that_have_changed_are_another_study(
    recipe: Path, grid: Path, trained: Path, tmp_path: Path, capsys: Captured
) -> None:
    command = ["ablate", "--grid", str(grid), "--recipe", str(recipe), "--out", "study", *SHORT, "--init"]
    for scale in (1.0, 2.0):
        weights = load_file(sorted((trained / "checkpoints").glob("step-*"))[-1] / "model.safetensors")
        own = {key.removeprefix("backbone."): value for key, value in weights.items() if key.startswith("backbone.")}
        save_file({key: value * scale for key, value in own.items() if value.ndim}, tmp_path / "w.safetensors")
        assert barlowctl([*command, "w.safetensors", "--print-sbatch"]) == (0 if scale == 1.0 else 2)
    assert "holds a study of another recipe" in capsys.readouterr().err
    assert barlowctl([*command, " "]) == 2
    assert "--init is empty" in capsys.readouterr().err


def read(file: Path) -> dict[str, Any]:
    parsed: dict[str, Any] = json.loads(file.read_text())
    return parsed


def start(command: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "barlowctl", *command],
        env={**os.environ}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def wait_for(process: subprocess.Popen[str], condition: Callable[[], Any]) -> None:
    """Wait until the process has come so far; one that does not is ended with the test."""
    deadline = time.monotonic() + 240
    try:
        while not holds(condition):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.05)
    except BaseException:
        process.kill()
        process.communicate()
        raise


def holds(condition: Callable[[], Any]) -> bool:
    """Whether a condition on files holds. The process renames and removes folders while they are listed: not yet."""
    try:
        return bool(condition())
    except FileNotFoundError:
        return False


@pytest.mark.slow
def test_a_killed_study_goes_on_where_it_was_in_several_processes(
    recipe: Path, grid: Path, tmp_path: Path, capsys: Captured
) -> None:
    """SIGKILL in the second cell's training, SIGTERM to two processes at once, then to the end."""
    command = ["ablate", "--grid", str(grid), "--recipe", str(recipe), "--out", "study", "--seeds", "2", *SHORT]
    command += [
        "--set",
        "train.epochs=5",
        "--set",
        "train.checkpoint_every_epochs=1",
        "--set",
        "train.keep_checkpoints=1",
    ]
    cells = tmp_path / "study" / "cells"
    process = start(command)
    wait_for(process, lambda: len(list(cells.glob("*/seed-*/checkpoints/*/*.json"))) and list(cells.rglob("cell.json"))
             and len(list(cells.glob("*/seed-*/metrics.jsonl"))) == 2)  # fmt: skip
    process.kill()
    process.communicate()
    (first,) = cells.rglob("cell.json")
    stamp = first.stat().st_mtime_ns

    process = start([*command, "--parallel", "2"])
    wait_for(process, lambda: len(list(cells.glob("*/seed-*/metrics.jsonl"))) >= 3)
    process.send_signal(signal.SIGTERM)
    output, errors = process.communicate(timeout=240)
    assert process.returncode == 3, errors
    assert "next: barlowctl ablate --grid " in errors
    last = [line for line in output.splitlines() if line.startswith("[")][-1]
    assert last.endswith(": stopped")
    assert not any(cell.claimed for cell in _cells(recipe, grid, tmp_path))  # no process was left behind

    assert barlowctl([*command, "--json"]) == 0
    result = document(capsys)
    assert (result["cells"], result["finished"]) == (4, 4)
    assert first.stat().st_mtime_ns == stamp  # what was finished was not run again
    recorded = list(cells.rglob("metrics.jsonl"))
    assert len(recorded) == 4
    for metrics in recorded:
        steps = [json.loads(line) for line in metrics.read_text().splitlines()]
        logged = [record["step"] for record in steps if record["event"] == "step"]
        assert logged
        assert logged == sorted(set(logged))


def _cells(recipe: Path, grid: Path, tmp_path: Path) -> list[Any]:
    from barlowctl.recipe import load
    from barlowctl.study.directory import StudyDirectory
    from barlowctl.study.grid import read_grid

    sets = [*SHORT[1:-2:2], "train.epochs=8", "train.checkpoint_every_epochs=1", "train.keep_checkpoints=1"]
    base = load.load(str(recipe), sets)
    return StudyDirectory(tmp_path / "study", base, (read_grid(grid),), (0, 1)).cells


@pytest.mark.slow
def test_cells_of_a_pool_fail_with_their_own_words_and_the_advice_of_the_study(
    recipe: Path, tmp_path: Path, capsys: Captured
) -> None:
    """As in one process: the advice is this command's, and not that of the process of a cell."""
    grid = tmp_path / "two.toml"
    grid.write_text('[baseline]\n[slower]\n"optimizer.lr" = 1e-4\n')
    command = ["ablate", "--grid", str(grid), "--recipe", str(recipe), "--out", "study", *SHORT]
    assert barlowctl([*command, "--set", "train.batch_size=4096", "--parallel", "2"]) == 2
    error = capsys.readouterr().err
    assert re.search(r"cells could not be run; (baseline|slower), seed 0: the data has 1,000 images, not one", error)
    advice = [line for line in error.splitlines() if line.startswith("next: barlowctl")]
    again = ["ablate", "--grid", str(grid), "--recipe", str(recipe), *SHORT, "--parallel", "2"]
    assert advice == [f"next: {shlex.join(['barlowctl', *again])} --set train.batch_size=500 --out study-2"]


def test_a_cell_that_cannot_be_run_is_named_and_the_others_are_run(
    recipe: Path, tmp_path: Path, capsys: Captured
) -> None:
    grid = tmp_path / "big.toml"
    wild = '[wild]\n"optimizer.lr" = 1e6\n"optimizer.weight_decay" = 1e6\n'
    grid.write_text(f'[baseline]\n[too-big]\n"train.batch_size" = 4096\n{wild}')
    assert barlowctl(["ablate", "--grid", str(grid), "--recipe", str(recipe), "--out", "study", *SHORT]) == 2
    error = capsys.readouterr().err
    assert "1 cell could not be run; too-big, seed 0: the data has 1,000 images, not one batch of 4,096" in error
    diverged = next((tmp_path / "study" / "cells").glob("wild-*/seed-0/cell.json"))
    assert "the loss is nan" in json.loads(diverged.read_text())["failed"]  # a loss that diverges is a result
    assert len(list((tmp_path / "study").rglob("cell.json"))) == 2
    assert "the loss is nan" in (tmp_path / "study" / "big.md").read_text()
    assert (tmp_path / "study" / "big.png").is_file()


@pytest.mark.parametrize(
    ("advised", "typed"),
    [
        (["--set train.batch_size=650"] * 2, "--set train.batch_size=650 --out study-2"),
        (["--loader plain"] * 2, "--out study --loader plain"),
        (["barlowctl doctor"] * 2, None),
        (["--loader plain", "--loader fast"], None),
        (["--loader plain"], None),
    ],
)
def test_advice_that_is_flags_is_of_the_study_where_all_cells_fail_alike(
    recipe: Path, tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch, advised: list[str], typed: str
) -> None:
    """With the flags that the study was begun with; other values are a study of their own."""
    grid = tmp_path / "two.toml"
    grid.write_text('[baseline]\n[narrow]\n"model.projector" = [32]\n')
    errors = [UserError("this cannot be", next=text) for text in advised]

    def fail(*arguments: Any) -> bool:
        if not errors:
            return False  # another process has it
        raise errors.pop(0)

    monkeypatch.setattr("barlowctl.study.cells.run_cell", fail)
    command = ["ablate", "--grid", str(grid), "--recipe", "digits.toml", "--threads", "1", "--out", "study"]
    assert barlowctl(command) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("next: barlowctl")]
    begun = f"next: barlowctl ablate --grid {grid} --recipe digits.toml --threads 1 "
    assert lines == ([begun + typed] if typed else [f"next: {advised[0]}"] * advised[0].startswith("barlowctl"))


@pytest.mark.slow
def test_a_task_of_an_array_that_is_warned_queues_itself_again(
    recipe: Path, grid: Path, tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The script run for real, the warning coming while the cell is measured. One task's job id is the array's."""
    command = ["ablate", "--grid", str(grid), "--recipe", str(recipe), "--out", "study", *SHORT[:-2]]
    assert barlowctl([*command, "--threads", "1", "--print-sbatch"]) == 0
    (tmp_path / "array.sh").write_text(capsys.readouterr().out)
    fake = tmp_path / "fake"
    fake.mkdir()
    programs = {"srun": 'exec "$@"', "scontrol": f'echo "$@" >> {fake}/requeued'}
    for name, text in programs.items():
        (fake / name).write_text(f"#!/bin/bash\n{text}\n")
        (fake / name).chmod(0o755)
    # Measuring takes its time, so that the warning surely comes in the middle of it.
    (fake / "sitecustomize.py").write_text(
        "import os, sys, time\n"
        "if 'ablate' in sys.orig_argv and os.environ.get('SLOW'):\n"
        "    import barlowctl.eval.knn as knn\n"
        "    real = knn.knn_predict\n"
        f"    def slow(*a, **b):\n        open({str(fake / 'measuring')!r}, 'w').write(str(os.getpid()))\n"
        "        time.sleep(120)\n        return real(*a, **b)\n"
        "    knn.knn_predict = slow\n"
    )
    slurm = {"SLURM_JOB_ID": "77", "SLURM_ARRAY_JOB_ID": "77", "SLURM_ARRAY_TASK_ID": "1"}
    ours = {"PATH": f"{fake}:{os.environ['PATH']}", "SLOW": "1"}
    ours["PYTHONPATH"] = os.pathsep.join([str(fake), os.environ.get("PYTHONPATH", "")])
    for name, value in {**slurm, **ours}.items():
        monkeypatch.setenv(name, value)
    first = subprocess.Popen(["bash", "array.sh"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    wait_for(first, lambda: (fake / "measuring").is_file() and (fake / "measuring").read_text())
    os.kill(int((fake / "measuring").read_text()), signal.SIGUSR1)
    output, _ = first.communicate(timeout=240)
    assert first.returncode == 3, output
    assert (fake / "requeued").read_text() == "requeue 77_1\n"
    assert not list((tmp_path / "study").rglob("cell.json"))
    monkeypatch.setenv("SLOW", "")
    before = {file: file.stat().st_mtime_ns for file in (tmp_path / "study").rglob("*.safetensors")}
    assert subprocess.run(["bash", "array.sh"], timeout=240).returncode == 0
    (cell,) = (tmp_path / "study").rglob("cell.json")
    assert cell.parent.parent.name.startswith("narrow-")  # task 1
    assert {file: file.stat().st_mtime_ns for file in before} == before  # trained once


def test_what_a_study_cannot_take_is_said(recipe: Path, grid: Path, capsys: Captured) -> None:
    assert barlowctl(["ablate", "--loss", "--recipe", str(recipe), "--set", "seed=7"]) == 2
    assert "--seeds N" in capsys.readouterr().err
    grid.write_text('[baseline]\n[odd]\n"model.projektor" = [3]\n')
    assert barlowctl(["ablate", "--grid", str(grid), "--recipe", str(recipe), "--dry-run"]) == 2
    assert "mine.toml, variant 'odd': " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "no study was named"),
        (["--loss", "--only", "only-invarianc"], "did you mean 'only-invariance'"),
        (["--loss", "--cell", "99"], "the plan has 7 cells\nallowed: 0 to 6\n"),
        (["--loss", "--only", "baseline", "--cell", "1"], "the plan has 1 cell\nallowed: 0\n"),
        (["--loss", "--print-sbatch", "--slurm-option", "gpu"], "NAME=VALUE"),
        (["--loss", "--recipe", "quikstart"], "quickstart"),
    ],
)
def test_bad_input_is_named(recipe: Path, capsys: Captured, arguments: list[str], says: str) -> None:
    assert barlowctl(["ablate", *arguments]) == 2
    captured = capsys.readouterr().err
    assert says in captured
    assert "next: " in captured or "allowed: " in captured


@pytest.mark.parametrize(
    "named",
    [
        ["drop-aug", "batch-size"],
        ["batch-size", "drop-aug"],
        ["--batch-size", "drop-aug"],
        ["drop-aug", "--drop-aug", "--batch-size"],
    ],
)
def test_studies_are_named_as_words_or_as_options_and_mean_the_same(
    named: list[str], recipe: Path, capsys: Captured
) -> None:
    more = ["--only", "crop-only,256", "--recipe", str(recipe), "--print-sbatch", "--out", "s"]
    assert barlowctl(["ablate", *named, *more]) == 0
    script = capsys.readouterr().out
    assert " -m barlowctl ablate drop-aug batch-size --only crop-only,256 " in script


def test_a_study_that_is_not_there(recipe: Path, capsys: Captured) -> None:
    assert barlowctl(["ablate", "lamda", "--loss"]) == 2
    err = capsys.readouterr().err
    assert "there is no study 'lamda', did you mean 'lambd'?" in err
    assert (
        "allowed: loss, asymmetry, drop-aug, batch-size, projector, projector-width, lambd, methods, --grid FILE" in err
    )
    assert err.endswith("next: barlowctl ablate lambd --dry-run\n")
    assert barlowctl(["ablate", "mine.toml"]) == 2
    assert capsys.readouterr().err.endswith("next: barlowctl ablate --help\n")


def test_the_words_of_studies_are_the_options() -> None:
    from barlowctl.cli import completion
    from tests.cli.tree import ROOT

    names = {option.opts[0] for option in ROOT.commands["ablate"].params if option.param_type_name == "option"}
    words = completion.studies("")
    assert len(words) == 8
    assert {f"--{word}" for word in words} <= names
    assert completion.studies("proj") == ["projector", "projector-width"]


@pytest.mark.parametrize("how", [["--print-sbatch"], ["--cell", "0"], []])
def test_a_held_out_part_that_no_cell_can_have_is_refused_before_a_queue(
    recipe: Path, grid: Path, how: list[str], tmp_path: Path, capsys: Captured
) -> None:
    """As --dry-run refuses it: every task of the array ended with it."""
    command = ["ablate", "--grid", str(grid), "--recipe", str(recipe), "--out", "study", "--set", "data.holdout=100000"]
    assert barlowctl([*command, *how]) == 2
    printed = capsys.readouterr()
    assert "error: data.holdout is 100000 of " in printed.err
    assert "#SBATCH" not in printed.out
    assert " --set data.holdout=" in printed.err.split("next: ")[1]
    assert not (tmp_path / "study").exists()
