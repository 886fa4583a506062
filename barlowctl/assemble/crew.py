"""A study's cells in several processes of this machine, each on its own device or its own share of the cores."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from barlowctl.ablate.ledger import Cell
from barlowctl.assemble.machine import Runtime, choose_device, cores
from barlowctl.errors import EXIT_DONE, RunStopped, UserError
from barlowctl.train.signals import wanted

POLL_SECONDS = 0.2


@dataclass(frozen=True)
class Place:
    """What one process may use."""

    device: str
    threads: int | None


def places(count: int, runtime: Runtime, recipe_threads: int) -> list[Place]:
    """`count` places: the GPUs in turn, or equal shares of the cores.

    Raises:
        UserError: several processes were asked for on one named GPU.
    """
    device = choose_device(runtime.device)
    if device.type == "cpu":
        threads = runtime.threads or recipe_threads or max(1, cores() // count)
        return [Place("cpu", threads)] * count
    if runtime.device not in ("auto", "cuda"):
        raise UserError(
            f"--parallel {count} with --device {runtime.device}, which is one device",
            allowed="no --device: the processes take this machine's GPUs in turn",
            next="without --device",
        )
    return [Place(f"cuda:{number % torch.cuda.device_count()}", runtime.threads) for number in range(count)]


def places_at_once(count: int, runtime: Runtime, recipe_threads: int) -> int:
    """How many times as fast `count` processes are as one at most: no more than there are GPUs, or cores for them."""
    if choose_device(runtime.device).type == "cuda":
        return min(count, torch.cuda.device_count())
    return min(count, max(1, cores() // (runtime.threads or recipe_threads or cores())))


def run_cells(
    cells: Sequence[tuple[int, Cell]],
    crew: Sequence[Place],
    arguments: Callable[[int, Place], list[str]],
    tell: Callable[[Cell, str | None], None],
) -> dict[str, str]:
    """Run `python -m barlowctl <arguments(number, place)>` for every cell, as many at a time as there are places.

    Args:
        cells: (number, cell) pairs. tell: is told of every cell that starts ("started") and ends (None, or what
            went wrong).

    Returns:
        Cells that could not be run: label -> the last line their process wrote.

    Raises:
        RunStopped: a signal that asks to stop came (`train.signals`); every process has saved its state.
    """
    waiting, working = list(cells), dict[int, tuple[subprocess.Popen[bytes], Cell]]()
    wrong: dict[str, str] = {}
    told: set[int] = set()
    with _signals() as stopping:
        try:
            while working or (waiting and not stopping()):
                for slot, place in enumerate(crew):
                    if slot not in working and waiting and not stopping():
                        number, cell = waiting.pop(0)
                        working[slot] = (_start(arguments(number, place), _log(cell)), cell)
                        tell(cell, "started")
                if stopping():
                    _stop(working, told)
                for slot, (process, cell) in list(working.items()):
                    if (code := process.poll()) is not None:
                        del working[slot]
                        if code != EXIT_DONE and not stopping():
                            wrong[cell.label] = _last_line(_log(cell)) or f"exit code {code}"
                        tell(cell, wrong.get(cell.label))
                time.sleep(POLL_SECONDS)
        finally:
            _stop(working, told)
            for process, _ in working.values():
                process.wait()
    if stopping():
        raise RunStopped("the study was stopped; what runs were in progress have saved their state",
                         next="barlowctl ...")  # fmt: skip
    return wrong


def _log(cell: Cell) -> Path:
    return cell.path.with_name(f"{cell.path.name}.log")


def _start(arguments: Sequence[str], log: Path) -> subprocess.Popen[bytes]:
    """A process of its own session: Ctrl-C reaches this one, which passes it on once."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as file:
        return subprocess.Popen(
            [sys.executable, "-m", "barlowctl", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def _stop(working: dict[int, tuple[subprocess.Popen[bytes], Cell]], told: set[int]) -> None:
    """SIGTERM to every process, once."""
    for process, _ in working.values():
        if process.poll() is None and process.pid not in told:
            process.send_signal(signal.SIGTERM)
            told.add(process.pid)


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    errors = [line for line in lines if line.startswith(("error:", "internal error"))]
    return (errors or lines or [""])[-1]


@contextmanager
def _signals() -> Iterator[Callable[[], bool]]:
    received: list[int] = []
    before = {number: signal.signal(number, lambda number, frame: received.append(number)) for number in wanted()}
    try:
        yield lambda: bool(received)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
