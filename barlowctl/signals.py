"""Signals that ask a run to stop, and when they may break into what it does. A leaf.

The first one is obeyed after the step in progress. Another Ctrl-C does not wait for it, and an `urgent` block
does not wait for any: they raise KeyboardInterrupt where they arrive, but in a `shielded` block (the weights are
changed, or written) at its end. That happens once: whoever goes on pressing does not disturb the saving.

That is how a command handles them. Within `left_alone` nothing is installed: Ctrl-C is Python's own, which raises
KeyboardInterrupt wherever it arrives but in a `shielded` block, and the other signals are whoever's they are.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass, field
from types import FrameType

# By name: Windows, where `barlowctl doctor` works and little else, has two of them.
STOPPING: tuple[signal.Signals, ...] = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1", "SIGHUP") if hasattr(signal, name)
)


class Ended(KeyboardInterrupt):
    """SIGTERM or SIGHUP came. number: which of them."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = signal.Signals(number)


@contextmanager
def ended_as_by_interrupt() -> Iterator[None]:
    """SIGTERM and SIGHUP end the block as Ctrl-C does, by `Ended`, so that what is half-written is cleared up.

    Where they are ignored (`nohup`) or handled they stay so. Those within a second of the last are one, as `timeout`
    sends two. A process that the block forks dies of them.
    """
    own, last = os.getpid(), -1.0

    def end(number: int, frame: FrameType | None) -> None:
        nonlocal last
        if os.getpid() != own:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        before, last = last, time.monotonic()
        if before < 0 or last - before > 1:
            raise Ended(number)

    numbers = [number for number in STOPPING if number.name in ("SIGTERM", "SIGHUP")]
    installed = [number for number in numbers if signal.getsignal(number) is signal.SIG_DFL]
    for number in installed:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in installed:
            signal.signal(number, signal.SIG_DFL)


def signals_to_handle() -> tuple[signal.Signals, ...]:
    """The signals to act on. SIGHUP stays ignored where it is: `nohup` asks for that."""
    return tuple(
        number for number in STOPPING if number.name != "SIGHUP" or signal.getsignal(number) is not signal.SIG_IGN
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
def handlers_put_back() -> Iterator[None]:
    """The block may install handlers and leave them (torchrun's agent does); after it they are as they were."""
    before = {number: signal.getsignal(number) for number in signal.valid_signals()}
    try:
        yield
    finally:
        for number, former in before.items():
            if former is not None and signal.getsignal(number) is not former:  # None: not a handler of Python's
                signal.signal(number, former)


@contextmanager
def noted() -> Iterator[Callable[[], bool]]:
    """Only note the signals in the block, whichever and how often; yields whether one has come."""
    received: list[int] = []
    with handled(lambda number, frame: received.append(number)):
        yield lambda: bool(received)


@dataclass
class Requests:
    """What has arrived; true (`()`) when something has. `handles`: whether a handler brings it here."""

    handles: bool = False
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


_requests: ContextVar[Requests] = ContextVar("requests")
_left_alone: ContextVar[bool] = ContextVar("left_alone", default=False)


@contextmanager
def left_alone() -> Iterator[None]:
    """No handler is installed for what the block does: it belongs to a program that has its own, or to a thread."""
    token = _left_alone.set(True)
    try:
        yield
    finally:
        _left_alone.reset(token)


@contextmanager
def stop_requests() -> Iterator[Callable[[], bool]]:
    """Let signals ask for a stop of what the block does (see above); yields whether one has."""
    requests = Requests(handles=not _left_alone.get())
    token = _requests.set(requests)
    try:
        with handled(requests.handle) if requests.handles else nullcontext():
            yield requests
    finally:
        _requests.reset(token)


def _own() -> Requests:
    """Of what is being done here; where nobody has begun any, nothing arrives."""
    return _requests.get(None) or Requests()


@contextmanager
def shielded() -> Iterator[None]:
    """No signal breaks into the block; one that would have raises at its end."""
    own = _own()
    own.shields += 1
    try:
        with nullcontext() if own.handles else _interrupt_held_back():
            yield
    finally:
        own.shields -= 1
    own.interrupt()


@contextmanager
def _interrupt_held_back() -> Iterator[None]:
    """Whoever handles Ctrl-C is told of one at the end of the block. It reaches the main thread only."""
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield
        return
    came: list[FrameType | None] = []
    signal.signal(signal.SIGINT, lambda number, frame: came.append(frame))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if came:
        before(signal.SIGINT, came[0])


@contextmanager
def urgent() -> Iterator[None]:
    """The first signal ends the block by KeyboardInterrupt, and one that came before does not let it begin."""
    own = _own()
    own.urgent = True
    try:
        if own.received:
            raise KeyboardInterrupt
        yield
    finally:
        own.urgent = False
