"""Several processes of the command line on this machine, each on its own device or its own share of the cores."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from barlowctl import program
from barlowctl.errors import EXIT_DONE, RunStopped
from barlowctl.signals import ENDS_WITH, noted

POLL_SECONDS = 0.2
STOPPED = "stopped"
"""What is reported of a task that ended after a signal that asks to stop."""
FAILURE = "BARLOWCTL_FAILURE"
"""Variable with the file that a process of a pool writes why it fails to (see `hand_over`)."""
_REASONS: dict[int, str] = {
    signal.SIGKILL: ", as the system does when memory runs out",
    signal.SIGBUS: ", as the system does where a file that is read was cut short, or its disk fails",
}


@dataclass(frozen=True)
class Slot:
    """What one process may use."""

    device: str
    threads: int | None


@dataclass(frozen=True)
class Failure:
    """Why a process failed. advice: what to type next, as it was raised: not yet a command of that process."""

    reason: str
    advice: str = ""


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
) -> dict[str, Failure]:
    """Run `python -m barlowctl <arguments(task, slot)>` for every task, as many at a time as there are slots.

    Args:
        report: called for every task that starts ("started") and ends (None, what went wrong, or `STOPPED`).

    Returns:
        Tasks that could not be run: label -> what their process handed over, else the last line it wrote, or which
        signal ended it.

    Raises:
        RunStopped: a signal that asks to stop came (`signals`); every process has saved its state.
    """
    waiting, working = list(tasks), dict[int, tuple[subprocess.Popen[bytes], T]]()
    wrong: dict[str, Failure] = {}
    signalled: set[int] = set()
    with noted() as stopping, tempfile.TemporaryDirectory() as folder:
        try:
            while working or (waiting and not stopping()):
                for number, slot in enumerate(slots):
                    if number not in working and waiting and not stopping():
                        task = waiting.pop(0)
                        working[number] = (_start(arguments(task, slot), task.log, Path(folder, str(number))), task)
                        report(task, "started")
                if stopping():
                    _stop(working, signalled)
                for number, (process, task) in list(working.items()):
                    if (code := process.poll()) is not None:
                        del working[number]
                        if code != EXIT_DONE and not stopping():
                            wrong[task.label] = _why(task.log, code, Path(folder, str(number)))
                        ended = wrong[task.label].reason if task.label in wrong else None
                        report(task, STOPPED if stopping() else ended)
                time.sleep(POLL_SECONDS)
        finally:
            _stop(working, signalled)
            for process, _ in working.values():
                process.wait()
    if stopping():
        raise RunStopped("the study was stopped; what runs were in progress have saved their state",
                         next="barlowctl ...")  # fmt: skip
    return wrong


def hand_over(reason: str, advice: str | None) -> None:
    """Say to the pool that started this process, if one did, why it fails; what was said first counts."""
    if file := os.environ.get(FAILURE):
        with suppress(OSError), open(file, "x", encoding="utf-8") as stream:
            json.dump([reason, advice or ""], stream)


def _start(arguments: Sequence[str], log: Path, failure: Path) -> subprocess.Popen[bytes]:
    """A process of its own session: Ctrl-C reaches this one, which passes it on once; killed, it leaves none behind."""
    failure.unlink(missing_ok=True)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as file:
        return subprocess.Popen(
            [sys.executable, *program.words(), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={**os.environ, ENDS_WITH: str(os.getpid()), FAILURE: str(failure)},
        )


def _stop(working: Mapping[int, tuple[subprocess.Popen[bytes], Task]], signalled: set[int]) -> None:
    """SIGTERM to every process, once."""
    for process, _ in working.values():
        if process.poll() is None and process.pid not in signalled:
            process.send_signal(signal.SIGTERM)
            signalled.add(process.pid)


def _why(log: Path, code: int, failure: Path) -> Failure:
    """Why a process failed: what it handed over, else its last line; one that a signal ended could not say so."""
    if code < 0:
        return Failure(f"its process was ended by {signal.Signals(-code).name}{_REASONS.get(-code, '')}")
    with suppress(OSError, ValueError):
        return Failure(*json.loads(failure.read_text(encoding="utf-8")))
    return Failure(_last_line(log) or f"exit code {code}")


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    errors = [line for line in lines if line.startswith(("error:", "internal error"))]
    return (errors or lines or [""])[-1].removeprefix("error: ")
