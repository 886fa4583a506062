"""What launchers leave in the environment: a rank among several, alone, or an error that names every variable."""

from __future__ import annotations

import contextlib
import os
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest

from barlowctl.errors import UserError
from barlowctl.launcher import ALONE, LaunchedProcess, detect, first_node, refuse_several, says_errors
from tests.cli.conftest import digits, recipe  # noqa: F401 - fixtures

TORCHRUN = {"RANK": "1", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}
STEP = {"SLURM_JOB_ID": "7", "SLURM_STEP_ID": "0", "SLURM_PROCID": "1", "SLURM_LOCALID": "1"}
TWO_TASKS = STEP | {"SLURM_NTASKS": "2", "SLURM_STEP_NUM_TASKS": "2"}
TWO_NODES = STEP | {
    "SLURM_STEP_NUM_TASKS": "8", "SLURM_STEP_NUM_NODES": "2", "SLURM_PROCID": "5", "SLURM_LOCALID": "1",
    "SLURM_NODEID": "1", "SLURM_STEP_NODELIST": "gpu[07-08]", "SLURM_STEP_TASKS_PER_NODE": "4(x2)",
    "SLURM_LAUNCH_NODE_IPADDR": "10.0.0.1",
}  # fmt: skip


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, ALONE),
        (TORCHRUN, LaunchedProcess("torchrun", 1, 4, 1, 2, "127.0.0.1", 29500)),
        (TORCHRUN | {"LOCAL_WORLD_SIZE": "4"}, LaunchedProcess("torchrun", 1, 4, 1, 4, "127.0.0.1", 29500)),
        ({"WORLD_SIZE": "1"}, ALONE),
        ({"WORLD_SIZE": "1", "RANK": "0", "LOCAL_RANK": "0"}, ALONE),
        ({"MASTER_ADDR": "a", "MASTER_PORT": "1"}, ALONE),  # some clusters set them for everybody
        (TWO_TASKS, LaunchedProcess("srun", 1, 2, 1, 2, "127.0.0.1", 20007)),
        (TWO_TASKS | TORCHRUN, LaunchedProcess("torchrun", 1, 4, 1, 2, "127.0.0.1", 29500)),  # torchrun inside a task
        (TWO_NODES, LaunchedProcess("srun", 5, 8, 1, 4, "gpu07", 20007)),
        (
            TWO_NODES | {"MASTER_ADDR": "ib-gpu07", "MASTER_PORT": "4000"},
            LaunchedProcess("srun", 5, 8, 1, 4, "ib-gpu07", 4000),
        ),
        (STEP | {"SLURM_NTASKS": "1", "SLURM_PROCID": "0"}, ALONE),
        # a batch script, and the shell of an allocation
        ({"SLURM_JOB_ID": "7", "SLURM_NTASKS": "8", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}, ALONE),
        ({"SLURM_JOB_ID": "7", "SLURM_NTASKS": "8"}, ALONE),
        (TWO_TASKS | {"SLURM_STEP_ID": str(0xFFFFFFFB), "SLURM_PROCID": "0"}, ALONE),
        (TWO_TASKS | {"SLURM_STEP_ID": str(0xFFFFFFFA), "SLURM_PROCID": "0"}, ALONE),
        ({"OMPI_COMM_WORLD_SIZE": "1", "OMPI_COMM_WORLD_RANK": "0"}, ALONE),
    ],
)
def test_a_process_among_those_of_its_launcher(environment: dict[str, str], expected: LaunchedProcess) -> None:
    assert detect(environment) == expected


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"WORLD_SIZE": None}, "WORLD_SIZE is not set"),
        ({"RANK": None}, "RANK is not set"),
        ({"LOCAL_RANK": None}, "LOCAL_RANK is not set"),
        ({"MASTER_ADDR": None}, "MASTER_ADDR is not set"),
        ({"MASTER_ADDR": " "}, "MASTER_ADDR is empty"),
        ({"MASTER_PORT": None}, "MASTER_PORT is not set"),
        ({"MASTER_PORT": "70000"}, "MASTER_PORT is 70000"),
        ({"RANK": "4"}, "RANK is 4 of WORLD_SIZE 4"),
        ({"RANK": "-1"}, "RANK is '-1'"),
        ({"RANK": "one"}, "RANK is 'one'"),
        ({"RANK": ""}, "RANK is empty"),
        ({"WORLD_SIZE": "0"}, "WORLD_SIZE is '0'"),
        ({"WORLD_SIZE": "2.0"}, "WORLD_SIZE is '2.0'"),
        ({"WORLD_SIZE": "1", "RANK": "1"}, "RANK is 1 of WORLD_SIZE 1"),
        ({"LOCAL_WORLD_SIZE": "1"}, "LOCAL_RANK is 1 of LOCAL_WORLD_SIZE 1"),
    ],
)
def test_missing_variables_are_named(changed: dict[str, str | None], named: str) -> None:
    environment = {name: value for name, value in (TORCHRUN | changed).items() if value is not None}
    with pytest.raises(UserError) as caught:
        detect(environment)
    assert named in caught.value.message
    assert "torchrun --standalone --nproc-per-node" in (caught.value.next or "")
    assert (caught.value.next or "").startswith("env -u ")


def test_all_that_is_wrong_is_named_at_once() -> None:
    with pytest.raises(UserError) as caught:
        detect({"WORLD_SIZE": "2"})
    for name in ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        assert f"{name} is not set" in caught.value.message
    assert caught.value.next == (
        "env -u WORLD_SIZE barlowctl ...\ntorchrun --standalone --nproc-per-node 2 -m barlowctl ..."
    )


@pytest.mark.parametrize(
    ("environment", "named"),
    [
        (TWO_TASKS | {"SLURM_PROCID": "2"}, "SLURM_PROCID is 2 of SLURM_STEP_NUM_TASKS 2"),
        (TWO_TASKS | {"SLURM_LOCALID": "x"}, "SLURM_LOCALID is 'x'"),
        (TWO_TASKS | {"SLURM_NNODES": "2"}, "SLURM_STEP_NODELIST is not set"),
        (
            {"OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_RANK": "3"},
            "OMPI_COMM_WORLD_SIZE=4 and OMPI_COMM_WORLD_RANK=3",
        ),
        ({"PMI_SIZE": "2", "PMI_RANK": "0"}, "PMI_SIZE=2"),
    ],
)
def test_processes_that_nothing_joins_are_refused(environment: dict[str, str], named: str) -> None:
    with pytest.raises(UserError) as caught:
        detect(environment)
    assert named in caught.value.message
    assert "torchrun --standalone" in (caught.value.next or "")


@pytest.mark.parametrize(
    ("names", "first"),
    [
        ("node1", "node1"),
        ("node1,node2", "node1"),
        ("gpu[03-05,9],cpu1", "gpu03"),
        ("gpu[9,03-05]", "gpu9"),
        ("rack1-[2,4]n[7-8],x", "rack1-2n7"),
        ("a-b-c[001-100].cluster", "a-b-c001.cluster"),
        ("", ""),
    ],
)
def test_the_first_of_a_host_list(names: str, first: str) -> None:
    assert first_node(names) == first


def test_whatever_the_variables_hold_it_is_a_process_or_a_users_error() -> None:
    generator = random.Random(0)
    names = [
        *TORCHRUN, "LOCAL_WORLD_SIZE", *TWO_NODES, "SLURM_NTASKS", "SLURM_NNODES", "SLURM_PTY_PORT",
        "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK", "PMI_SIZE", "PMI_RANK",
    ]  # fmt: skip
    values = ["", " ", "0", "1", "2", "3", "-1", "x", "1.5", "٣", "99999999999", "a[1-3]", "4(x2),1", "[", "\udce9"]
    places = 0
    for _ in range(4000):
        environment = {name: generator.choice(values) for name in names if generator.random() < 0.4}
        says_errors(environment)
        with contextlib.suppress(UserError):
            process = detect(environment)
            places += 1
            assert 0 <= process.rank < process.size
            assert 0 <= process.local_rank < process.local_size
            assert process.size == 1 or process.by
    assert places > 100


@pytest.mark.parametrize(
    ("environment", "next_"),
    [
        ({"RANK": "0"}, "env -u RANK barlowctl ..."),
        ({"PMI_SIZE": "2", "PMI_RANK": "0"}, "barlowctl ..."),
        ({"SLURM_NTASKS": "2", "SLURM_PROCID": "0", "SLURM_JOB_ID": "7", "SLURM_STEP_ID": "0"}, "barlowctl ..."),
    ],
)
def test_a_command_of_one_process_is_not_advised_to_start_several(
    environment: dict[str, str], next_: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith(("SLURM_", "PMI", "OMPI_"))]:
        monkeypatch.delenv(name)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError) as caught:
        refuse_several("report")
    assert caught.value.next == next_


def test_one_process_of_a_machine_says_it() -> None:
    assert says_errors({})
    assert [says_errors(TWO_TASKS | {"SLURM_PROCID": n, "SLURM_LOCALID": n}) for n in "01"] == [True, False]
    assert [says_errors({"RANK": n}) for n in "01"] == [True, False]
    assert [says_errors({"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_LOCAL_RANK": n}) for n in "01"] == [True, False]


def _tasks(count: int, tmp_path: Path, arguments: list[str]) -> list[tuple[int, str, str]]:
    """What `srun -n COUNT barlowctl ...` does on one machine."""
    job = {"SLURM_JOB_ID": str(random.SystemRandom().randrange(10**6)), "SLURM_STEP_ID": "0"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "barlowctl", *arguments],
            env={**os.environ, **job, "SLURM_NTASKS": str(count), "SLURM_STEP_NUM_TASKS": str(count),
                 "SLURM_PROCID": str(task), "SLURM_LOCALID": str(task), "SLURM_NODEID": "0"},
            cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for task in range(count)
    ]  # fmt: skip
    outputs = [process.communicate(timeout=300) for process in processes]
    return [(process.returncode, *output) for process, output in zip(processes, outputs, strict=True)]


@pytest.mark.slow
@pytest.mark.dist
def test_tasks_of_srun_train_one_run(recipe: Path, tmp_path: Path) -> None:  # noqa: F811
    first, second = _tasks(
        2, tmp_path, ["pretrain", "--recipe", str(recipe), "--out", "runs/a", "--set", "train.epochs=1"]
    )
    assert (first[0], second[0]) == (0, 0), first[2] + second[2]
    assert re.search(r"ranks +2, 64 images each", first[1])
    assert second[1] == ""
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["a"]


def test_tasks_of_srun_are_refused_where_one_process_is_enough(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from barlowctl.cli import app

    for name, value in (TWO_TASKS | {"SLURM_PROCID": "0", "SLURM_LOCALID": "0"}).items():
        monkeypatch.setenv(name, value)
    of_one = [
        ["probe", "runs/a"],
        ["export", "runs/a"],
        ["report", "runs/a"],
        ["transfer", "runs/a", "--task", "voc07"],
    ]
    for arguments in (*of_one, ["embed", "runs/a"], ["data", "pack", "a", "b"], ["pretrain", "--slurm"]):
        assert app.run(arguments) == 2
        errors = capsys.readouterr().err
        assert "srun started 2 processes" in errors
        assert f"next: barlowctl {' '.join(arguments)}\n" in errors
    monkeypatch.setenv("SLURM_LOCALID", "1")
    monkeypatch.setenv("SLURM_PROCID", "1")
    assert app.run(["probe", "resnet18"]) == 2
    assert capsys.readouterr().err == ""


def test_half_set_variables_are_named_by_the_command(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from barlowctl.cli import app

    monkeypatch.setenv("WORLD_SIZE", "2")
    assert app.run(["probe", "my run"]) == 2
    errors = capsys.readouterr().err
    assert "RANK is not set; LOCAL_RANK is not set; MASTER_ADDR is not set; MASTER_PORT is not set" in errors
    assert "next: env -u WORLD_SIZE barlowctl probe 'my run'\n" in errors
    assert "torchrun -" not in errors  # several processes would be refused again
