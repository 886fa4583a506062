"""Times steps in rounds, from within: whoever takes steps says so before each one, and the watch does the rest.

So a whole training loop can be measured as it is: the watch sits where its batches come from.
"""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Iterator
from typing import Any, Protocol

import torch

from barlowctl.bench.loss import peak_bytes, reset_peak
from barlowctl.bench.process_tree import cpu_seconds


class Over(BaseException):
    """There are no more rounds. No error and no signal, so that a training loop it goes through saves nothing."""


class Conversation(Protocol):
    """What a watch needs of `channel.Channel`."""

    def ask(self) -> dict[str, Any] | None: ...

    def answer(self, values: dict[str, Any]) -> None: ...


class Watch(Protocol):
    """Sits where a training loop's batches come from."""

    def next_batch(self, batches: Iterator[Any], ahead: int) -> Any: ...

    def note(self, text: str) -> None: ...


class Stopwatch:
    """A round is `warmup` steps that do not count and `steps` that do, measured from the beginning of the first.

    Questions are `{"round": n}`; the answer to each has images and seconds, cpu_seconds (of the process; with
    `children` also of its workers), peak_bytes, waited (seconds that batches took to come), and notes. Round 0 is one
    of warm-up, with one step that counts.

    Args:
        images: of a step, each with its views.
    """

    def __init__(
        self, channel: Conversation, device: torch.device, *, images: int, warmup: int, steps: int, children: bool
    ) -> None:
        self.channel, self.device, self.images = channel, device, images
        self.warmup, self._steps, self.steps, self.children = warmup, steps, steps, children
        self._taken: int | None = None  # of the round; None: between two rounds
        self._waited = 0.0
        self._notes: list[str] = []

    def next_batch(self, batches: Iterator[Any], ahead: int) -> Any:
        """The batch of the step that comes now; getting it is counted as waiting for data.

        Args:
            ahead: how many a loader may have made during the rounds of others. So many are thrown away first.
        """
        if self.before_step():
            for _ in range(ahead):
                next(batches)
        begin = time.perf_counter()
        batch = next(batches)
        self._waited += time.perf_counter() - begin
        return batch

    def before_step(self) -> bool:
        """A step comes now. Returns at once, or answers what the last round was and waits for the next one.

        Returns:
            Whether a round begins.

        Raises:
            Over: there are no more rounds.
        """
        if self._taken == self.warmup + self.steps:
            self.channel.answer(self._stop())
            self._taken = None
        begins = self._taken is None
        if self._taken is None:
            question = self.channel.ask()
            if question is None:
                raise Over
            self._taken, self.steps = 0, self._steps if question["round"] else 1
        if self._taken == self.warmup:
            self._start()
        self._taken += 1
        return begins

    def note(self, text: str) -> None:
        """Something that who reads the numbers should know."""
        self._notes.append(text)

    def _start(self) -> None:
        self._waited = 0.0
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
            torch.cuda.reset_peak_memory_stats(self.device)
        else:
            reset_peak()
        self._cpu, self._begin = self._cpu_seconds(), time.perf_counter()

    def _stop(self) -> dict[str, Any]:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        seconds, cpu, waited = time.perf_counter() - self._begin, self._cpu_seconds() - self._cpu, self._waited
        return {
            "images": self.images * self.steps,
            "steps": self.steps,
            "seconds": seconds,
            "cpu_seconds": cpu,
            "waited": waited,
            "peak_bytes": self._peak(),
            "notes": self._notes,
        }

    def _cpu_seconds(self) -> float:
        return cpu_seconds(os.getpid()) if self.children else time.process_time()

    def _peak(self) -> int:
        """The round's peak; then the others, which run now, get back what lies unused."""
        if self.device.type == "cuda":
            peak = torch.cuda.max_memory_reserved(self.device)  # what a captured graph keeps is no allocation
            torch.cuda.empty_cache()
            return peak
        peak = peak_bytes()
        if hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
            libc.malloc_trim(0)
        return peak
