"""The process of one row of a benchmark, and rounds of several rows in turns: A B B A ...

A process of its own gives each row its own memory to be measured; turns spread whatever else the machine does over
all of them. What runs in the process answers through a `Channel` (`barlowctl/bench/channel.py`).
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from barlowctl.amounts import rate
from barlowctl.bench.both_orders import in_order
from barlowctl.bench.process_tree import TICK, cpu_seconds, memory_bytes
from barlowctl.errors import UserError

POLL_SECONDS = 0.1
"""How often memory is looked at."""


@dataclass
class Measured:
    """One row, round by round. peak: bytes, of the process and its workers, over all rounds.

    ready: its answer once it was built. warm_up: its answer to the round that does not count.
    answers: to each round that does.
    failed: why an optional row dropped out.
    """

    name: str
    rates: list[float] = field(default_factory=list)  # images per second
    cpu_ms: list[float] = field(default_factory=list)  # CPU milliseconds per image
    peak: int = 0
    failed: str | None = None
    ready: dict[str, Any] = field(default_factory=dict)
    warm_up: dict[str, Any] = field(default_factory=dict)
    answers: list[dict[str, Any]] = field(default_factory=list)


class BenchmarkProcess:
    """A row in its own process, idle between rounds.

    Args:
        module: run as `python -m MODULE`; it calls `channel.serve`. settings: its first question, JSON values.
        optional: where it fails, the others go on without it.
        polls: look at its memory while it runs, and at that of its workers.
        environment: variables of its process, beside this one's.
    """

    def __init__(
        self,
        name: str,
        module: str,
        settings: Mapping[str, Any],
        *,
        optional: bool = False,
        polls: bool = True,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.measured, self.optional, self._polls = Measured(name), optional, polls
        self._process = subprocess.Popen(
            [sys.executable, "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **(environment or {})},
            process_group=0,  # Ctrl-C is this process's, which ends the other one without a traceback of it
        )
        self._settings = {"name": name, **settings}

    def start(self) -> None:
        """Build what is measured.

        Raises:
            UserError: it cannot be built, or its process ended.
        """
        self.measured.ready = self._ask(self._settings)

    def run(self, number: int, *, keep: bool) -> None:
        """One round; `keep` is False for a warm-up."""
        with self._watched():
            cpu = cpu_seconds(self._process.pid)
            answer = self._ask({"round": number})
            cpu = cpu_seconds(self._process.pid) - cpu
        if not keep:
            self.measured.warm_up = answer
        else:
            self.measured.answers.append(answer)
            if "images" in answer:
                self.measured.rates.append(answer["images"] / answer["seconds"])
                self.measured.cpu_ms.append(1e3 * max(cpu, TICK) / answer["images"])  # a short round may see no tick

    def close(self) -> None:
        """End the process."""
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
        try:
            self._process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def _ask(self, question: Mapping[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(question) + "\n")
            self._process.stdin.flush()
        try:
            line = self._process.stdout.readline()
        except KeyboardInterrupt:
            self._process.kill()  # nobody waits for the round
            raise
        answer: dict[str, Any] = json.loads(line) if line else {"error": self._ending()}
        if "error" in answer:
            raise UserError(f"the pipeline '{self.measured.name}' failed: {answer['error']}")
        return answer

    def _ending(self) -> str:
        """How a process ended that should have answered."""
        self.close()
        killed = self._process.returncode == -signal.SIGKILL
        return "its process was killed: not enough memory?" if killed else "its process ended"

    @contextlib.contextmanager
    def _watched(self) -> Iterator[None]:
        stop = threading.Event()
        watcher = threading.Thread(target=self._watch, args=(stop,))
        if self._polls:
            watcher.start()
        try:
            yield
        finally:
            stop.set()
            if self._polls:
                watcher.join()

    def _watch(self, stop: threading.Event) -> None:
        ended = False
        while not ended:  # looks once more at the end: a round may be shorter than the time between two looks
            ended = stop.wait(POLL_SECONDS)
            self.measured.peak = max(self.measured.peak, memory_bytes(self._process.pid))


def measure_in_turns(
    processes: Sequence[BenchmarkProcess],
    rounds: int,
    progress: Callable[[str], None],
    check: Callable[[Sequence[Measured]], None] = lambda ready: None,
    over: Callable[[], bool] = lambda: False,
) -> list[Measured]:
    """A round of warm-up and `rounds` more, each of every row in turn, in both orders by turns (`both_orders`).

    Args:
        check: called with those that are ready, before the first round; what it raises ends the measurement.
        over: called after each round that counts: whether it was the last one.

    Raises:
        UserError: a row failed that is not optional; one that is says so in `Measured.failed`.
    """

    def step(process: BenchmarkProcess, number: int) -> str:
        if number < 0:
            process.start()
            return "ready"
        process.run(number, keep=number > 0)
        speed = f", {rate(process.measured.rates[-1])} images/s" if process.measured.rates else ""
        return f"round {number} of {rounds}{speed}" if number else "warm-up"

    try:
        for number in range(-1, rounds + 1):
            for process in in_order(processes, max(number, 1)):
                if process.measured.failed is None:
                    try:
                        done = step(process, number)
                    except UserError as error:
                        if not process.optional:
                            raise
                        done = process.measured.failed = error.message.partition("\n")[0]
                        process.close()
                    progress(f"{process.measured.name}: {done}")
            if number < 0:
                check([process.measured for process in processes if process.measured.failed is None])
            if number > 0 and over():
                break
    finally:
        for process in processes:
            process.close()
    return [process.measured for process in processes]
