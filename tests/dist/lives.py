"""`barlowctl` in processes that can be killed: forked off a server that imported everything once."""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from tests.dist.gang import PRELOADED, free_port

PATIENCE = 900.0  # seconds; a machine may be busy with other things
COMMANDS = [*PRELOADED, "tests.dist.lives"]


def _live(arguments: Sequence[str], environment: dict[str, str], limits: dict[str, int], pipe: Connection) -> None:
    import torch

    os.environ.update(environment)
    os.chdir(environment["PWD"])
    torch.set_num_threads(1)
    if "file_bytes" in limits:
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (limits["file_bytes"], resource.RLIM_INFINITY))
    if "user" in limits:
        os.setuid(limits["user"])
    from barlowctl.cli.app import run

    errors = io.StringIO()
    with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(errors):
        code = run(list(arguments))
    pipe.send((code, errors.getvalue()))
    sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115 - broken connections need no words here


class Life:
    """One command in one process, or in several ranks of one run; `folder/data` is the data home."""

    def __init__(self, folder: Path, *arguments: str, ranks: int = 1, **limits: int) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(COMMANDS)
        environment = {"BARLOWCTL_DATA": str(folder / "data"), "BARLOWCTL_RUNS": str(folder / "runs")}
        environment |= {"PWD": str(folder)}
        launched = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": str(ranks)}
        self.processes, self.pipes = [], []
        for rank in range(ranks):
            ours, theirs = context.Pipe()
            own = {"RANK": str(rank), "LOCAL_RANK": str(rank), **launched} if ranks > 1 else {}
            process = context.Process(target=_live, args=(arguments, environment | own, limits, theirs), daemon=True)
            process.start()
            theirs.close()
            self.processes.append(process)
            self.pipes.append(ours)

    def signal(self, number: int, rank: int = 0) -> None:
        """Send a signal to a rank that is still there."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.processes[rank].pid or 0, number)

    def wait(self, timeout: float = PATIENCE) -> list[tuple[int | None, str]]:
        """(exit code, what it said) of every rank; None: killed."""
        deadline = time.monotonic() + timeout
        endings: list[tuple[int | None, str]] = []
        for process, pipe in zip(self.processes, self.pipes, strict=True):
            try:
                assert pipe.poll(max(0.0, deadline - time.monotonic())), "still running"
                endings.append(pipe.recv())
            except (EOFError, ConnectionResetError):
                endings.append((None, ""))
            process.join(30)
        return endings

    @property
    def over(self) -> bool:
        return all(not process.is_alive() for process in self.processes)


def until(condition: Callable[[], Any], life: Life, timeout: float = PATIENCE) -> bool:
    """Wait until something is so; False when the life ended, or the time, before."""
    deadline = time.monotonic() + timeout
    while not condition():
        if life.over or time.monotonic() > deadline:
            return False
        time.sleep(0.001)
    return True


def half_written(run: Path) -> set[str]:
    """Names of checkpoints that are being written, or were when their process was killed."""
    return {path.name for path in _listed(run / "checkpoints") if path.name.startswith(".partial-step")}


def _listed(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def kill_and_resume(
    folder: Path, recipe: Path, *, kills: int, ranks: int, seed: int, extra: Sequence[str]
) -> tuple[list[Path], dict[str, int]]:
    """Train, killed by SIGKILL at random moments and resumed each time, run after run until all kills are done.

    A third of the kills waits for a checkpoint to be half written; of several ranks one is killed, or all.
    Returns the finished runs, and how often what was hit.
    """
    generator = random.Random(seed)
    hit = {"kills": 0, "writing": 0, "before the first checkpoint": 0, "all ranks": 0}
    runs: list[Path] = []
    while True:
        run = folder / "runs" / f"life-{len(runs)}"
        runs.append(run)
        while not (run / "result.json").is_file():
            new = not (run / "recipe.toml").is_file()
            where = ["--recipe", str(recipe), *extra, "--out", str(run)] if new else ["--resume", str(run)]
            life = Life(folder, "pretrain", *where, "--threads", "1", "--quiet", ranks=ranks)
            if hit["kills"] == kills:
                for code, output in life.wait():
                    assert code == 0, output
                return runs, hit
            left = half_written(run)
            records = run / "metrics.jsonl"
            before = records.stat().st_size if records.is_file() else 0
            early = generator.random() < 0.15  # start-up included
            if early:
                time.sleep(generator.uniform(0.0, 1.0))
            else:
                until(lambda: records.is_file() and records.stat().st_size != before, life)  # noqa: B023
                time.sleep(generator.uniform(0.0, 0.3))
                if generator.random() < 0.4:
                    until(lambda: half_written(run) - left, life, timeout=5.0)  # noqa: B023
                    time.sleep(generator.uniform(0.0, 0.004))
            # Before they have met, a rank waits for the others as long as --rank-timeout says.
            everyone = ranks > 1 and (early or generator.random() < 0.5)
            for rank in range(ranks) if everyone else [generator.randrange(ranks)]:
                life.signal(signal.SIGKILL, rank)
            endings = life.wait()
            if all(code == 0 for code, _ in endings):
                break  # it was faster
            assert all(code in (None, 4, 0) for code, _ in endings), endings
            hit["kills"] += 1
            hit["all ranks"] += everyone
            hit["writing"] += bool(half_written(run) - left)
            hit["before the first checkpoint"] += not (run / "checkpoints").is_dir()
