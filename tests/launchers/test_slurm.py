"""Both kinds of script are made by one builder: what they share, and what is each one's own."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from barlowctl.launchers.slurm import Slurm, run_script, study_script
from barlowctl.runs import rundir


def directives(script: str) -> dict[str, str]:
    """sbatch's options, quotes read as Slurm reads them."""
    lines = [line.removeprefix("#SBATCH ") for line in script.splitlines() if line.startswith("#SBATCH ")]
    words = [shlex.split(line) for line in lines]
    assert all(len(word) == 1 for word in words), lines
    return dict(word[0].removeprefix("--").partition("=")[::2] for word in words)


def run(folder: Path, **options: str) -> str:
    slurm = Slurm(nodes=2, ranks_per_node=4, on_gpus=True, time="1:00", options=options)
    return run_script(folder, slurm, ["--recipe", "a b"], ["--threads", "1"])


def study(folder: Path, **options: str) -> str:
    return study_script([0, 1, 2, 5], ["--loss", "--set", "a=b c"], out=folder, at_once=4, options=options)


@pytest.mark.parametrize("make", [run, study])
@pytest.mark.parametrize("python", ["/usr/bin/python3", "/opt/it's mine/python"])
def test_what_every_script_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make, python: str) -> None:
    monkeypatch.setattr(sys, "executable", python)
    script = make(tmp_path / "50% off", partition="gpu")
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)
    flags = directives(script)
    assert flags["job-name"] == "barlowctl-50% off"
    assert flags["output"].startswith(f"{tmp_path}/50%% off")
    assert (flags["signal"], flags["open-mode"], flags["partition"]) == ("USR1@120", "append", "gpu")
    assert "requeue" in flags
    assert shlex.quote(python) in script
    assert directives(make(tmp_path / "a", signal="USR1@600"))["signal"] == "USR1@600"  # the user's word is the last


def test_a_run_asks_for_its_ranks_and_an_array_for_its_cells(tmp_path: Path) -> None:
    of_run, of_study = directives(run(tmp_path / "a")), directives(study(tmp_path / "s", time="1:00"))
    assert [of_run[name] for name in ("nodes", "ntasks-per-node", "gpus-per-node", "time")] == ["2", "4", "4", "1:00"]
    assert [of_study[name] for name in ("array", "ntasks", "gpus", "time")] == ["0-2,5%4", "1", "1", "1:00"]
    assert "-m barlowctl ablate --loss --set 'a=b c' --cell \"$SLURM_ARRAY_TASK_ID\"" in study(tmp_path / "s")
    assert "set -- --recipe 'a b' --out" in run(tmp_path / "a")


@pytest.mark.parametrize("make", [run, study])
@pytest.mark.parametrize(
    ("code", "restarts", "again"),
    [(0, 0, False), (2, 0, False), (5, 0, False), (3, 9, True), (143, 9, True)]
    + [(code, restarts, restarts < 5) for code in (4, 134, 135, 137, 138, 139) for restarts in (0, 4, 5)],
)
def test_both_are_queued_again_after_the_same_exit_codes(
    tmp_path: Path, make, code: int, restarts: int, again: bool
) -> None:
    """What was told to stop, always; what was killed (137: for memory) a few times; bad input and divergence never."""
    programs = {"srun": f"exit {code}", "scontrol": f'[ "$1" = show ] || echo "$@" >> {tmp_path}/requeued'}
    for name, text in programs.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{text}\n")
        (tmp_path / name).chmod(0o755)
    slurm = {"SLURM_JOB_ID": "7", "SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "1", "SLURM_JOB_NODELIST": "n"}
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "SLURM_RESTART_COUNT": str(restarts), **slurm}
    done = subprocess.run(["bash"], input=make(tmp_path / "x"), text=True, env=environment, capture_output=True)
    assert done.returncode == code, done.stderr
    assert (tmp_path / "requeued").is_file() == again


@pytest.mark.parametrize(
    ("content", "started"),
    [
        (rundir.json_text({"run": "x", "steps": 20, "since_start": {"changed": 1.0}}), False),
        ("{}", True),
        (rundir.json_text({"run": "x"}), True),
        (rundir.json_text({"steps": 20, "since_start": {"changed": 1.0}}).removesuffix("}\n"), True),
    ],
)
def test_a_finished_run_is_not_started_again_and_a_damaged_result_is_looked_at(
    tmp_path: Path, content: str, started: bool
) -> None:
    """By `pretrain --resume`, which refuses it."""
    for name, text in {"srun": f"touch {tmp_path}/started", "scontrol": "true"}.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{text}\n")
        (tmp_path / name).chmod(0o755)
    (tmp_path / "x").mkdir()
    (tmp_path / "x/result.json").write_text(content)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "n"}
    done = subprocess.run(["bash"], input=run(tmp_path / "x"), text=True, env=environment, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "started").exists() == started
    assert (f"{tmp_path}/x is finished" in done.stdout) != started


@pytest.mark.parametrize(
    ("settings", "requested"),
    [
        ({}, ["gpus=1"]),
        ({"gpu": False}, []),
        ({"gpu": False, "cores": 3}, ["cpus-per-task=3"]),
        ({"cores": 3}, ["gpus=1"]),
    ],
)
def test_a_task_of_a_study_asks_for_a_gpu_or_for_cores(
    tmp_path: Path, settings: dict[str, Any], requested: list[str]
) -> None:
    script = study_script([0], ["--loss"], out=tmp_path, **settings)
    assert re.findall(r"^#SBATCH --((?:gpus|cpus).*)$", script, re.MULTILINE) == requested
