"""How long each step takes, from the end of the one before it: what training loses there counts too."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


class StepClock:
    """Seconds of steps, and those of them that are spent waiting for the batch.

    What is between two steps counts with the second one: there the host reads the loss of the first, for which it waits
    until the device has it, and shows and notes it. Checkpoints and evaluations are left out.
    """

    def begin(self) -> None:
        """An epoch begins."""
        self._ended = time.perf_counter()

    def ask(self) -> None:
        """The next batch is asked for."""
        self._waits_from = time.perf_counter()

    def arrive(self) -> None:
        """The batch is there."""
        self._arrived = time.perf_counter()

    def end(self) -> tuple[float, float]:
        """A step ends: its seconds, and those until its batch was there."""
        ended = time.perf_counter()
        seconds = ended - self._ended, self._arrived - self._waits_from
        self._ended = ended
        return seconds

    def rest(self) -> float:
        """Seconds since the newest step ended, which count with it and no longer with the one that follows."""
        before, self._ended = self._ended, time.perf_counter()
        return self._ended - before

    @contextmanager
    def left_out(self) -> Iterator[None]:
        """What is done inside is part of no step, except for what `rest` takes."""
        begun = time.perf_counter()
        try:
            yield
        finally:
            self._ended = time.perf_counter() - max(begun - self._ended, 0.0)
