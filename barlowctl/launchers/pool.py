"""Several processes of the command line on this machine, each on its own device or its own share of the cores."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from barlowctl.errors import EXIT_DONE, RunStopped
from barlowctl.signals import ENDS_WITH, noted

POLL_SECONDS = 0.2
_REASONS: dict[int, str] = {
    signal.SIGKILL: ", as the system does when memory runs out",
    signal.SIGBUS: ", as the system does where a file that is read was cut short, or its disk fails",
}


@dataclass(frozen=True)
class Slot:
    """What one process may use."""

    device: str
    threads: int | None


class Task(Protocol):
    """What one process does. label: for people. log: the file of what it writes to its terminal."""

    @property
    def label(self) -> str: ...

    @property
    def log(self) -> Path: ...


T = TypeVar("T", bound=Task)


def run_all(
    tasks: Sequence[T],
    slots: Sequence[Slot],
    arguments: Callable[[T, Slot], list[str]],
    report: Callable[[T, str | None], None],
) -> dict[str, str]:
    """Run `python -m barlowctl <arguments(task, slot)>` for every task, as many at a time as there are slots.

    Args:
        report: called for every task that starts ("started") and ends (None, or what went wrong).

    Returns:
        Tasks that could not be run: label -> the last line their process wrote, or which signal ended it.

    Raises:
        RunStopped: a signal that asks to stop came (`signals`); every process has saved its state.
    """
    waiting, working = list(tasks), dict[int, tuple[subprocess.Popen[bytes], T]]()
    wrong: dict[str, str] = {}
    signalled: set[int] = set()
    with noted() as stopping:
        try:
            while working or (waiting and not stopping()):
                for number, slot in enumerate(slots):
                    if number not in working and waiting and not stopping():
                        task = waiting.pop(0)
                        working[number] = (_start(arguments(task, slot), task.log), task)
                        report(task, "started")
                if stopping():
                    _stop(working, signalled)
                for number, (process, task) in list(working.items()):
                    if (code := process.poll()) is not None:
                        del working[number]
                        if code != EXIT_DONE and not stopping():
                            wrong[task.label] = _why(task.log, code)
                        report(task, wrong.get(task.label))
                time.sleep(POLL_SECONDS)
        finally:
            _stop(working, signalled)
            for process, _ in working.values():
                process.wait()
    if stopping():
        raise RunStopped("the study was stopped; what runs were in progress have saved their state",
                         next="barlowctl ...")  # fmt: skip
    return wrong


def _start(arguments: Sequence[str], log: Path) -> subprocess.Popen[bytes]:
    """A process of its own session: Ctrl-C reaches this one, which passes it on once; killed, it leaves none behind."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as file:
        return subprocess.Popen(
            [sys.executable, "-m", "barlowctl", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={**os.environ, ENDS_WITH: str(os.getpid())},
        )


def _stop(working: Mapping[int, tuple[subprocess.Popen[bytes], Task]], signalled: set[int]) -> None:
    """SIGTERM to every process, once."""
    for process, _ in working.values():
        if process.poll() is None and process.pid not in signalled:
            process.send_signal(signal.SIGTERM)
            signalled.add(process.pid)


def _why(log: Path, code: int) -> str:
    """Why a process failed: its last line; one that a signal ended could not say so."""
    if code < 0:
        return f"its process was ended by {signal.Signals(-code).name}{_REASONS.get(-code, '')}"
    return _last_line(log) or f"exit code {code}"


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    errors = [line for line in lines if line.startswith(("error:", "internal error"))]
    return (errors or lines or [""])[-1]
