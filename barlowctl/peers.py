"""The processes of a run's ranks: on which machine each is, whether it is there yet, what it says before it ends.

A leaf: standard library only.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

ENDING = 1.0
"""Seconds for which a process that is killed may be there although its connections are closed."""


@dataclass(frozen=True)
class Peer:
    """A rank's process.

    host: its machine, for people. space: where its number means it. number: of the process. computes_on: "a GPU" or
    "its CPU"; "": not said.
    """

    host: str
    space: str
    number: int
    computes_on: str = ""

    @property
    def is_gone(self) -> bool:
        """Whether it has ended; of a process on another machine, or in another container, nothing is known: False."""
        return self.space == here() and not _is_there(self.number)


def own(computes_on: str = "") -> Peer:
    """This process."""
    return Peer(platform.node(), here(), os.getpid(), computes_on)


def here() -> str:
    """The machine, and in it the container, whose processes are told apart by their numbers."""
    try:
        container = os.readlink("/proc/self/ns/pid")
        return f"{platform.node()} {Path('/proc/sys/kernel/random/boot_id').read_text().strip()} {container}"
    except OSError:  # not Linux
        return platform.node()


def _is_there(number: int) -> bool:
    """Whether a process lives. One that has ended and that its parent has not asked about yet does not."""
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    except OSError:  # another user's
        return True
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except (OSError, IndexError):
        return True


def last_words(
    store: Any, peers: Sequence[Peer], ranks: Sequence[int], seconds: float
) -> tuple[dict[int, str], list[int]]:
    """What ranks say of why they fail, and those whose process has ended without a word.

    Args:
        store: torch's, where they leave it; None: there is none. peers: the process of every rank, or of none.
        seconds: how long to wait at most: until there is a reason, or somebody who ended without.
    """
    deadline = (begun := time.monotonic()) + seconds
    words: dict[int, str] = {}
    gone: list[int] = []
    while store is not None and len(words) < len(ranks):
        ended = _ended(ranks, peers)  # before: who says something may end then
        try:
            for rank in ranks:
                if rank not in words and store.check([f"failed/{rank}"]):
                    words[rank] = store.get(f"failed/{rank}").decode()
        except Exception:  # the store is gone, with rank 0 or torchrun's agent, and others left since
            while not (ended := _ended(ranks, peers)) and peers and time.monotonic() < min(deadline, begun + ENDING):
                time.sleep(0.01)
            return words, [0] if 0 in ended else ended
        gone = [rank for rank in ended if rank not in words]
        if gone or any(words.values()) or time.monotonic() > deadline:
            break
        time.sleep(0.05)
    return words, gone


def _ended(ranks: Sequence[int], peers: Sequence[Peer]) -> list[int]:
    return [rank for rank in ranks if peers and peers[rank].is_gone]


def missing(ranks: Collection[int], peers: Iterable[Peer], *, gone: bool) -> str:
    """Which ranks are not there, in words.

    Args:
        peers: the process of every rank; of none where they are not known. gone: whether their processes have ended.
    """
    known = dict(enumerate(peers))
    if gone:
        return "; ".join(
            f"rank {rank} is gone: its process {known[rank].number} was killed or crashed" for rank in ranks
        )
    hosts = {known[rank].host for rank in ranks if rank in known}
    there = f" on {', '.join(sorted(hosts))}" if hosts - {platform.node()} else ""
    if len(ranks) == 1:
        return f"rank {next(iter(ranks))}{there} is gone or does not answer"
    return f"ranks {ranges(sorted(ranks))}{there} are gone or do not answer"


def ranges(numbers: list[int]) -> str:
    """`1, 8 to 15` for 1, 8, 9, ..., 15."""
    firsts = [numbers[0], *(later for earlier, later in pairwise(numbers) if later > earlier + 1)]
    lasts = [*(earlier for earlier, later in pairwise(numbers) if later > earlier + 1), numbers[-1]]
    return ", ".join(
        str(first) if first == last else f"{first} to {last}" for first, last in zip(firsts, lasts, strict=True)
    )
