"""What takes long and shows no count, for a command to say while it goes on. A leaf: standard library only.

Whoever waits is deep in the package, and whoever speaks is the command: a console listens. Where nobody does, in Python
say, nothing is printed.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

SECONDS = 2.0
"""What is over sooner is not worth a line."""

_listener: Callable[[str], None] | None = None


def listen(listener: Callable[[str], None] | None) -> None:
    """Give the text of every wait that takes long to a function from now on, in a thread of its own; None: to none."""
    global _listener
    _listener = listener


def say(text: str) -> None:
    """Give a text to who listens, at once."""
    if (listener := _listener) is not None:
        listener(text)


class Wait:
    """A context, entered once or for each piece of a wait: `text` is given once the pieces have taken so many seconds.

    Pieces may lie in one another, as a compiler's do, which compiles what a function calls.

    Args:
        seconds: None: `SECONDS`.
    """

    def __init__(self, text: str, seconds: float | None = None) -> None:
        self.text = text
        self._left = SECONDS if seconds is None else seconds
        self._depth = 0
        self._begun = 0.0
        self._timer: threading.Timer | None = None

    def __enter__(self) -> None:
        self._depth += 1
        if self._depth == 1 and self._left > 0.0 and _listener is not None:
            self._begun = time.monotonic()
            self._timer = threading.Timer(self._left, self._give)
            self._timer.daemon = True
            self._timer.start()

    def __exit__(self, *_: object) -> None:
        self._depth -= 1
        if self._depth == 0 and self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._left -= time.monotonic() - self._begun

    def _give(self) -> None:
        self._left = 0.0
        say(self.text)
