"""Signals that ask a run to stop, and when they may break into what it does. A leaf.

The first one is obeyed after the step in progress. Another Ctrl-C does not wait for it, and an `urgent` block
does not wait for any: they raise KeyboardInterrupt where they arrive, but in a `shielded` block (the weights are
changed, or written) at its end. That happens once: whoever goes on pressing does not disturb the saving.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)


def signals_to_handle() -> tuple[signal.Signals, ...]:
    """The signals to act on. SIGHUP stays ignored where it is: `nohup` asks for that."""
    return tuple(
        number
        for number in STOPPING
        if number != signal.SIGHUP or signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN
    )


@contextmanager
def handled(handler: Callable[[int, FrameType | None], object], *, leaving: Container[int] = ()) -> Iterator[None]:
    """Handle the signals that ask to stop, except those of `leaving`, for the block; then as they were before."""
    before = {number: signal.signal(number, handler) for number in signals_to_handle() if number not in leaving}
    try:
        yield
    finally:
        for number, former in before.items():
            signal.signal(number, former)


@contextmanager
def noted() -> Iterator[Callable[[], bool]]:
    """Only note the signals in the block, whichever and how often; yields whether one has come."""
    received: list[int] = []
    with handled(lambda number, frame: received.append(number)):
        yield lambda: bool(received)


@dataclass
class Requests:
    """What has arrived; true (`()`) when something has."""

    received: list[int] = field(default_factory=list)
    shields: int = 0
    urgent: bool = False
    interrupts: bool = False  # KeyboardInterrupt is to be raised
    interrupted: bool = False  # and was

    def __call__(self) -> bool:
        return bool(self.received)

    def handle(self, number: int, frame: FrameType | None) -> None:
        """The handler of a signal."""
        again = bool(self.received) and number == signal.SIGINT
        self.received.append(number)
        self.interrupts = self.interrupts or again or self.urgent
        self.interrupt()

    def interrupt(self) -> None:
        """Raise KeyboardInterrupt if it is due, once, and not behind a shield."""
        if self.interrupts and not self.shields and not self.interrupted:
            self.interrupted = True
            raise KeyboardInterrupt


_requests = Requests()


@contextmanager
def stop_requests() -> Iterator[Callable[[], bool]]:
    """Let signals ask for a stop of what the block does (see above); yields whether one has."""
    global _requests
    outer, _requests = _requests, Requests()
    try:
        with handled(_requests.handle):
            yield _requests
    finally:
        _requests = outer


@contextmanager
def shielded() -> Iterator[None]:
    """No signal breaks into the block; one that would have raises at its end."""
    own = _requests
    own.shields += 1
    try:
        yield
    finally:
        own.shields -= 1
    own.interrupt()


@contextmanager
def urgent() -> Iterator[None]:
    """The first signal ends the block by KeyboardInterrupt, and one that came before does not let it begin."""
    own = _requests
    own.urgent = True
    try:
        if own.received:
            raise KeyboardInterrupt
        yield
    finally:
        own.urgent = False
