"""Signs of life that ranks leave in the store while they connect: by them one that is gone elsewhere is missed.

A process on another machine, or the whole machine, may end without closing what it never opened: who connects to it
would wait for as long as the time limit says. Rank 0 watches the others, and the last rank watches rank 0, whose
machine need not be the one of the store. Who misses a rank says so in the store, where all look.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from barlowctl.launcher import LaunchedProcess
from barlowctl.peers import Peer, missing

EVERY = 1.0
"""Seconds between two signs of a rank."""
SILENCE = 30.0
"""Seconds without one after which a rank is missed: on a machine that is busy they come late."""


class SignsOfLife:
    """Those of the ranks that have met, until each has connected to all.

    Args:
        store: torch's, by a connection that nobody else waits on. process: this rank's. peers: those of all ranks.
    """

    def __init__(self, store: Any, process: LaunchedProcess, peers: Sequence[Peer]) -> None:
        self._store, self._rank, self._peers = store, process.rank, peers
        self._watched = {0: range(1, process.size), process.size - 1: range(1)}.get(process.rank, range(0))
        now = time.monotonic()
        self._seen = dict.fromkeys(self._watched, (b"", now))  # the newest sign, and when it was new
        self._count, self._next = 0, now

    def look(self) -> str | None:
        """Leave a sign, where one is due; why to stop connecting, in words; None: nobody is missed.

        Raises:
            RuntimeError: the store is gone.
        """
        now = time.monotonic()
        if now < self._next:
            return None
        self._next, self._count = now + EVERY, self._count + 1
        self._store.set(f"sign/{self._rank}", str(self._count))
        if silent := self._silent(now):
            self.tell(missing(silent, self._peers, gone=False))
        return self._store.get("missed").decode() if self._store.check(["missed"]) else None

    def tell(self, why: str) -> None:
        """Let all ranks stop connecting: who is missed, in words."""
        self._store.set("missed", why)

    def connected(self) -> None:
        """This rank needs none of the others any more to connect, and leaves no more signs."""
        self._store.set(f"sign/{self._rank}", "connected")

    def _silent(self, now: float) -> list[int]:
        """Of the ranks that this one watches, those without a sign for too long."""
        for rank in self._watched:
            sign = self._store.get(f"sign/{rank}") if self._store.check([f"sign/{rank}"]) else b""
            if sign != self._seen[rank][0]:
                self._seen[rank] = (sign, now)
        return [rank for rank, (sign, at) in self._seen.items() if sign != b"connected" and now - at > SILENCE]
