"""Signals that ask a run to stop, and when they may break into what it does. A leaf.

The first one is obeyed after the step in progress. Another Ctrl-C does not wait for it, and an `urgent` block
does not wait for any: they raise KeyboardInterrupt where they arrive, but in a `shielded` block (the weights are
changed, or written) at its end. That happens once: whoever goes on pressing does not disturb the saving.

That is how a command handles them. Within `left_alone` nothing is installed: Ctrl-C is Python's own, which raises
KeyboardInterrupt wherever it arrives but in a `shielded` block, and the other signals are whoever's they are.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import time
import weakref
from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

# By name: Windows, where `barlowctl doctor` works and little else, has two of them.
STOPPING: tuple[signal.Signals, ...] = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1", "SIGHUP") if hasattr(signal, name)
)
ENDS_WITH = "BARLOWCTL_ENDS_WITH"
"""The variable with the number of the process that another one ends with (`end_with_parent`)."""
TORCHRUN = "TORCHELASTIC_RUN_ID"
"""The variable by which a process knows that torchrun's agent started it."""
_PARENT_DEATH_SIGNAL = 1  # Linux's PR_SET_PDEATHSIG
_AGAIN_SECONDS = 0.02
"""After which a signal comes again whose exception somebody dropped."""


class Ended(KeyboardInterrupt):
    """A signal that asks to stop came. number: which of them."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = signal.Signals(number)


class _Ending:
    """The handler of `ended_as_by_interrupt`, which sees to it that what it raises is not lost.

    What is raised within an import may be: the import system's own callbacks can only report an exception, and
    libraries have `except:` around imports that they can do without. One that is gone before the block is over was.
    """

    def __init__(self) -> None:
        self._own, self._last = os.getpid(), -1.0
        self._raised: weakref.ref[Ended] | None = None
        self._report = sys.unraisablehook
        self.over = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._own:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        before, self._last = self._last, time.monotonic()
        if before < 0 or self._last - before > 1:
            error = Ended(number)
            self._raised = weakref.ref(error, lambda gone: self._lost(number))
            try:
                raise error
            finally:
                del error  # or its traceback, which has this frame, would keep it alive

    def _lost(self, number: int) -> None:
        if not self.over:  # not from here: who drops an exception may be in the middle of anything
            timer = threading.Timer(_AGAIN_SECONDS, self._send_again, (number,))
            timer.daemon = True
            timer.start()

    def _send_again(self, number: int) -> None:
        if not self.over:
            self._last = -1.0
            if hasattr(signal, "pthread_kill"):
                signal.pthread_kill(threading.main_thread().ident or 0, number)
            else:  # Windows
                signal.raise_signal(number)

    def report(self, unraisable: Any) -> None:
        """`sys.unraisablehook`: nothing is said of what is raised again."""
        if not isinstance(unraisable.exc_value, Ended):
            self._report(unraisable)


@contextmanager
def ended_as_by_interrupt() -> Iterator[None]:
    """The signals that ask to stop end the block by `Ended`, a KeyboardInterrupt: what is half-written is cleared up.

    Where they are ignored (`nohup`, a script's command in the background) or handled they stay so. Those within a
    second of the last are one, as `timeout` sends two. One that is swallowed comes again. A process that the block
    forks dies of them.
    """
    ending = _Ending()
    before = {number: signal.getsignal(number) for number in STOPPING}
    before = {number: own for number, own in before.items() if own in (signal.SIG_DFL, signal.default_int_handler)}
    for number in before:
        signal.signal(number, ending)
    hook, sys.unraisablehook = sys.unraisablehook, ending.report
    try:
        yield
    finally:
        ending.over, sys.unraisablehook = True, hook
        for number, own in before.items():
            if signal.getsignal(number) is ending:
                signal.signal(number, own)


def end_with_parent() -> None:
    """Where a process named itself in `ENDS_WITH`, this one gets SIGTERM when that one is gone, even if it was killed.

    So does a process of torchrun's, whose ranks would train on unseen, and hold the run. Linux alone tells; elsewhere
    this process works on to its end. What it starts itself does not end with it.
    """
    parent = os.environ.pop(ENDS_WITH, "") or (str(os.getppid()) if TORCHRUN in os.environ else "")
    if not parent:
        return
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "prctl"):
        libc.prctl(_PARENT_DEATH_SIGNAL, signal.SIGTERM)
        if os.getppid() != int(parent):  # it was gone before that
            signal.raise_signal(signal.SIGTERM)


def ignore_from_now_on() -> None:
    """The outcome is settled: no signal that asks to stop changes it, and how the process ends."""
    for number in STOPPING:
        signal.signal(number, signal.SIG_IGN)


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
