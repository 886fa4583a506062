"""`barlowctl pretrain` with several processes, as a user meets it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from barlowctl import launchers, waits
from barlowctl.cli import pretrain_ranks
from barlowctl.cli.app import run as barlowctl
from barlowctl.runs import rundir
from barlowctl.train import checkpoint
from tests.api.own_optimizers import SOURCE
from tests.cli.conftest import digits, recipe  # noqa: F401 - fixtures
from tests.dist import gang

pytestmark = pytest.mark.dist

Captured = pytest.CaptureFixture[str]
SYNCHRONISED = (
    "--set",
    "train.sync_batch_norm=true",
    "--set",
    "train.log_every_steps=1",
    "--set",
    "eval.every_epochs=0",
)

LAUNCHED = {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29517"}


# As on a machine of two cores: where the tests are bound to one core, two processes share it.
TWO_CORES = "from barlowctl.cli import app, pretrain_ranks; pretrain_ranks.usable_cores = lambda: 2; app.main()"

TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "barlowctl")


def start(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", TWO_CORES, "pretrain", *arguments]
    return subprocess.Popen(command, env={**os.environ}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen[str], timeout: float = 900.0) -> tuple[int, str, str]:
    out, errors = process.communicate(timeout=timeout)
    return process.returncode, out, errors


def losses(run: Path) -> list[float]:
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [record["loss"] for record in records if record["event"] == "step"]


def test_two_processes_train_what_one_trains(recipe: Path, tmp_path: Path, capsys: Captured) -> None:  # noqa: F811
    two = start("--recipe", str(recipe), "--processes", "2", "--out", "runs/two", "--json", *SYNCHRONISED)
    code, out, errors = finish(two)
    assert code == 0, errors
    result: dict[str, Any] = json.loads(out)  # one document, from rank 0
    assert result["steps"] == 20
    assert "  2, 64 images each; batch norm over all ranks" in errors
    assert "primal form at batch 128 over 2 ranks" in errors
    assert errors.count("run runs/two") == 1
    assert errors.startswith("starting 2 processes, each of which loads torch ...\n")
    assert errors.count("starting 2 processes") == 1
    assert json.loads((tmp_path / "runs/two/run.json").read_text())["ranks"] == 2
    arguments = ["--recipe", str(recipe), "--threads", "1", "--out", "runs/one", "--quiet", *SYNCHRONISED]
    assert barlowctl(["pretrain", *arguments]) == 0
    one, both = losses(tmp_path / "runs/one"), losses(tmp_path / "runs/two")
    assert len(both) == 20
    assert both == pytest.approx(one, rel=1e-3)


@pytest.mark.slow
def test_an_optimizer_of_somebodys_own_over_ranks_and_shards(recipe: Path, tmp_path: Path) -> None:  # noqa: F811
    """Two processes, with a whole backbone and with a divided one, come to what one process comes to."""
    (tmp_path / "own_optimizers_of_mine.py").write_text(SOURCE)
    own = ["--set", "optimizer.name=own-sgd", "--set", "optimizer.momentum=0.9", "--set", "train.epochs=1", "--set", "optimizer.lr=1e-4"]
    imported = ["--import", "own_optimizers_of_mine.py", "pretrain", "--recipe", str(recipe), *own, *SYNCHRONISED]
    for name, more in {
        "one": ["--threads", "1"],
        "two": ["--processes", "2"],
        "divided": ["--processes", "2", "--set", "train.shard=true"],
    }.items():
        words = [sys.executable, "-m", "barlowctl", *imported, *more, "--out", f"runs/{name}", "--quiet"]
        subprocess.run(words, check=True, cwd=tmp_path)
    one, two, divided = (losses(tmp_path / "runs" / name) for name in ("one", "two", "divided"))
    assert len(one) == 10
    assert two == pytest.approx(one, rel=1e-3)
    assert divided == pytest.approx(two, rel=1e-4)


@pytest.mark.parametrize(
    ("flags", "lines"), [([], ["starting 2 processes, each of which loads torch ..."]), (["-q"], [])]
)
def test_what_is_started_is_said_before_torch_is_imported(
    recipe: Path,  # noqa: F811
    capsys: Captured,
    monkeypatch: pytest.MonkeyPatch,
    flags: list[str],
    lines: list[str],
) -> None:
    def run_ranks(arguments: list[str], count: int) -> int:
        assert capsys.readouterr().err.splitlines() == lines
        return 7

    monkeypatch.setattr(pretrain_ranks, "usable_cores", lambda: 2)
    monkeypatch.setitem(sys.modules, "barlowctl.launchers.ranks", SimpleNamespace(run_ranks=run_ranks))
    monkeypatch.setattr(launchers, "ranks", sys.modules["barlowctl.launchers.ranks"], raising=False)
    monkeypatch.setitem(sys.modules, "torch", None)  # whose import fails then
    assert barlowctl(["pretrain", "--recipe", str(recipe), "--processes", "2", *flags]) == 7


def test_a_rank_says_that_it_waits_for_the_others(
    recipe: Path,  # noqa: F811
    capsys: Captured,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in LAUNCHED.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(waits, "SECONDS", 0.2)
    assert barlowctl(["pretrain", "--recipe", str(recipe), "--rank-timeout", "1"]) == 2
    first, error, *_ = capsys.readouterr().err.splitlines()
    assert first == "waiting for rank 1 of 2 processes ..."
    assert error.startswith("error: the 2 processes that torchrun started could not find one another")
    assert error.endswith(": rank 0: rank 1 did not come in 1 s")


@pytest.mark.parametrize(
    ("size", "local_size", "command"),
    [
        ("3", "3", "torchrun --standalone --nproc-per-node 3 -m barlowctl pretrain"),
        (
            "4",
            "2",
            "torchrun --nnodes 2 --rdzv-backend c10d --rdzv-endpoint 127.0.0.1:{port} --nproc-per-node 2 -m barlowctl "
            "pretrain",
        ),
    ],
)
def test_ranks_that_did_not_meet_are_led_to_as_many(
    recipe: Path,  # noqa: F811
    capsys: Captured,
    monkeypatch: pytest.MonkeyPatch,
    size: str,
    local_size: str,
    command: str,
) -> None:
    port = str(gang.free_port())
    more = {"WORLD_SIZE": size, "LOCAL_WORLD_SIZE": local_size, "MASTER_PORT": port}
    for name, value in (LAUNCHED | more).items():
        monkeypatch.setenv(name, value)
    assert barlowctl(["pretrain", "--recipe", str(recipe), "--rank-timeout", "1"]) == 2
    arguments = f"--recipe {recipe} --rank-timeout 1"
    assert capsys.readouterr().err.splitlines()[-1] == f"next: {command.format(port=port)} {arguments}"


@pytest.mark.slow
def test_a_rank_that_is_killed_once_all_have_met_ends_the_others_in_seconds(
    recipe: Path,  # noqa: F811
) -> None:
    """Between the meeting and the connections, torch waits for it in its own code."""
    dies = (
        "import os, signal, time\n"
        "def die(*_, **__):\n    time.sleep(3)\n    os.kill(os.getpid(), signal.SIGKILL)\n"
        "dist.init_process_group = die"
    )
    ranks = []
    for rank in (0, 1):
        script = f"import torch.distributed as dist\n{dies * rank}\nfrom barlowctl.cli import app\napp.main()"
        variables = {"RANK": str(rank), "LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": "2"}
        command = [sys.executable, "-c", script, "pretrain", "--recipe", str(recipe), "--rank-timeout", "120"]
        ranks.append((command, LAUNCHED | variables))
    port = str(gang.free_port())
    processes = [
        subprocess.Popen(command, env=os.environ | more | {"MASTER_PORT": port}, stderr=subprocess.PIPE, text=True)
        for command, more in ranks
    ]
    assert finish(processes[1])[0] == -signal.SIGKILL
    ended = time.monotonic()
    try:
        left, _, errors = finish(processes[0], timeout=60)
    finally:
        processes[0].kill()
    assert time.monotonic() - ended < 20
    assert left == 4
    gone = f"rank 1 is gone: its process {processes[1].pid} was killed or crashed"
    assert f"error: rank 0 of 2 stopped: {gone}\nnext: barlowctl pretrain" in errors


def test_a_rank_that_finds_nobody_says_so_without_the_frames_of_torch(
    recipe: Path,  # noqa: F811
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What torch prints goes past Python, to the process's own standard error."""
    port = gang.free_port()
    for name, value in (LAUNCHED | {"RANK": "1", "LOCAL_RANK": "0", "MASTER_PORT": str(port)}).items():
        monkeypatch.setenv(name, value)
    assert barlowctl(["pretrain", "--recipe", str(recipe), "--rank-timeout", "1"]) == 2
    error = capfd.readouterr().err
    nobody = f"the 2 processes that torchrun started could not find one another at 127.0.0.1:{port}: rank 1: nothing"
    assert f"{nobody} answered in 1 s (Connection refused)\n" in error
    assert "frame #" not in error


def test_another_program_at_the_port_is_said_in_one_error(
    recipe: Path,  # noqa: F811
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is asked for what rank 0 answers before torch speaks to it, which prints frames, or waits for ever."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        for name, value in (LAUNCHED | {"MASTER_PORT": str(port)}).items():
            monkeypatch.setenv(name, value)
        assert barlowctl(["pretrain", "--recipe", str(recipe), "--rank-timeout", "1"]) == 2
        own = capfd.readouterr().err
        monkeypatch.setenv("RANK", "1")
        assert barlowctl(["pretrain", "--recipe", str(recipe), "--rank-timeout", "1"]) == 2
        joining = capfd.readouterr().err
    at = f"error: the 2 processes that torchrun started could not find one another at 127.0.0.1:{port}: rank"
    assert f"{at} 0: another program listens at port {port} of this machine already\n" in own
    assert f"{at} 1: another program listens there: it does not answer as rank 0 does\n" in joining
    assert "frame #" not in own + joining


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_the_launcher_saves_and_says_so_once(
    recipe: Path,  # noqa: F811
    tmp_path: Path,
    number: int,
) -> None:
    run = tmp_path / "runs" / "signalled"
    process = start("--recipe", str(recipe), "--processes", "2", "--out", str(run), "--set", "train.epochs=5000")
    while not (run / "metrics.jsonl").is_file():
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(number)
    code, _, errors = finish(process)
    assert code == 3, errors
    assert errors.count("the state is saved") == 1
    assert "Traceback" not in errors
    assert checkpoint.list_checkpoints(run / "checkpoints")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="Linux tells a process that the one that started it is gone")
@pytest.mark.parametrize("launched", [(sys.executable, "-c", TWO_CORES), TORCHRUN], ids=["processes", "torchrun"])
def test_ranks_whose_launcher_is_killed_save_and_leave(
    launched: tuple[str, ...],
    recipe: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    """They would train on without a terminal, and the run could not be resumed."""
    run = tmp_path / "runs" / "left"
    flags = () if launched is TORCHRUN else ("--processes", "2")
    command = [*launched, "pretrain", "--recipe", str(recipe), *flags, "--out", str(run), "--set", "train.epochs=5000"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    while not (run / "metrics.jsonl").is_file():
        assert process.poll() is None
        time.sleep(0.05)
    assert rundir.is_held(run)
    process.kill()
    _, errors = process.communicate(timeout=300)  # the ranks have its standard error too, and close it
    assert not rundir.is_held(run)
    assert "the state is saved" in errors
    assert checkpoint.list_checkpoints(run / "checkpoints")


def test_an_error_of_all_ranks_is_said_once(recipe: Path, tmp_path: Path) -> None:  # noqa: F811
    process = start("--recipe", str(recipe), "--processes", "2", "--set", "train.batch_size=125")
    code, out, errors = finish(process)
    assert code == 2
    assert out == ""
    assert errors.count("error: ") == 1
    assert "a batch of 125 images cannot be shared equally by 2 ranks" in errors
    assert "--set train.batch_size=124" in errors
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("arguments", "environment", "says"),
    [
        (["--gpus", "2", "--processes", "2"], {}, "exclude each other"),
        (["--gpus", "2", "--device", "cpu"], {}, "--gpus 2 and --device cpu exclude each other"),
        (["--processes", "2", "--device", "cuda"], {}, "and --device cuda exclude each other"),
        (["--print-sbatch", "--gpus", "2", "--device", "cpu"], {}, "exclude each other"),
        (["--gpus", "64"], {}, "64 GPUs were asked for"),
        (["--processes", "1000"], {}, "1000 cores were asked for"),
        (["--processes", "2"], LAUNCHED, "torchrun started 2 ranks already"),
        ([], {"WORLD_SIZE": "2"}, "WORLD_SIZE=2 says that a launcher started this process, but RANK is not set"),
        (["--rank-timeout", "1"], LAUNCHED, "the 2 processes that torchrun started could not find one another"),
    ],
)
def test_what_cannot_be_is_refused(
    recipe: Path,  # noqa: F811
    capsys: Captured,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    environment: dict[str, str],
    says: str,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert barlowctl(["pretrain", "--recipe", str(recipe), *arguments]) == 2
    captured = capsys.readouterr()
    assert says in captured.err
    assert "next: " in captured.err


def test_other_commands_refuse_torchrun(
    recipe: Path,
    capsys: Captured,
    monkeypatch: pytest.MonkeyPatch,  # noqa: F811
) -> None:
    for name, value in LAUNCHED.items():
        monkeypatch.setenv(name, value)
    assert barlowctl(["ablate", "--loss", "--recipe", str(recipe), "--seeds", "1"]) == 2
    assert "torchrun started 2 processes, but `barlowctl ablate` runs as one" in capsys.readouterr().err
