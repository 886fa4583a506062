"""Where the processes of a run meet: torch's store, once it answers there and all have come, or why not."""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from torch.distributed import PrefixStore, TCPStore  # type: ignore[attr-defined]  # documented names

from barlowctl import peers, shell, waits
from barlowctl.launcher import LaunchedProcess
from barlowctl.peers import Peer

UNKNOWN_SECONDS = 10.0
"""How long a machine's name may be unknown: that of one which is just starting may come."""
OTHER_SECONDS = 10.0
"""How long another program may answer where the store is looked for: it may end, and rank 0 come."""
ANSWER_SECONDS = 30.0
"""How long something may listen without an answer: torch's store has one at once, on a machine that is busy later."""
PAUSE = 0.2
LONGEST_TRY = 5.0
SAID_EVERY = 60.0
"""Seconds after which it is said again whom a rank waits for."""
CONNECTING = "barlowctl-connecting"
"""Name of the thread that connects to the other ranks."""
_HELLO = struct.pack("=BIB", 0, 0x3C85F7CE, 13)  # TCPStore.cpp: VALIDATE, its magic number, PING and then a number
_NUMBER = 0x62617277


class Unreachable(Exception):
    """Nothing answers there, or somebody does not come; the text says what was tried."""


class Gone(Exception):
    """A rank that had come is gone. says: whether no other rank that had come to this machine says so to the user."""

    def __init__(self, text: str, *, says: bool) -> None:
        super().__init__(text)
        self.says = says


def meet(process: LaunchedProcess, time_limit: float) -> tuple[Any, list[Peer]]:
    """The store where the ranks meet, once all are there, and the process of each.

    Rank 0 makes the store on its machine, unless torchrun's agent has.

    Torch prints frames of its own code where it does not find what it looks for, so it is asked only once a store
    answers. Rank 0 looks for its own store without its address: that the others do not reach it there is theirs to say.

    Raises:
        Unreachable: no store answered in `time_limit` seconds, or not all ranks came, or no machine is known by that
            name, or another program has the port.
        Gone: a rank that had come has ended since.
    """
    makes_store = process.rank == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
    address = "localhost" if makes_store else process.address
    begun = time.monotonic()
    if not makes_store:
        awaited = "torchrun's agent" if "TORCHELASTIC_RUN_ID" in os.environ else f"rank 0 of {process.size} processes"
        with waits.Wait(f"waiting for {awaited} at {process.address}:{process.port} ..."):
            wait_until_answered(address, process.port, time_limit)
    try:
        store = TCPStore(
            address, process.port, process.size, makes_store, datetime.timedelta(seconds=time_limit),
            wait_for_workers=False, multi_tenant=makes_store,
        )  # fmt: skip
    except RuntimeError as error:
        if "EADDRINUSE" not in str(error):
            raise
        raise Unreachable(f"another program listens at port {process.port} of this machine already") from error
    return store, wait_until_all_came(PrefixStore("barlowctl-meeting", store), process, time_limit, begun)


def connect(call: Callable[[], object], peers: Sequence[Peer], process: LaunchedProcess) -> None:
    """Make a call that connects ranks which have met: in a thread, since it would wait for one that is gone.

    Args:
        peers: the process of each rank.

    Raises:
        Gone: a rank on this machine has ended meanwhile; the thread may go on (see `CONNECTING`).
        Exception: what the call raised.
    """
    failures: list[BaseException] = []

    def attempt() -> None:
        try:
            call()
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=attempt, name=CONNECTING, daemon=True)
    thread.start()
    came = dict(enumerate(peers))
    while thread.is_alive():
        thread.join(PAUSE)
        if thread.is_alive():
            _refuse_gone(came, process)
    if failures:
        _wait_for_end(came.values())
        _refuse_gone(came, process)
        raise failures[0]


def wait_until_all_came(store: Any, process: LaunchedProcess, seconds: float, begun: float | None = None) -> list[Peer]:
    """Wait until every rank has left word in a store, and say whom this one waits for. The process of each.

    Args:
        begun: since when the seconds count (`time.monotonic`); None: now.

    Raises:
        Unreachable: some did not in so many seconds.
        Gone: one that had, or the store, is gone.
    """
    deadline = (time.monotonic() if begun is None else begun) + seconds
    next_said = time.monotonic() + waits.SECONDS
    came: dict[int, Peer] = {}
    absent = list(range(process.size))
    try:
        store.set(f"here/{process.rank}", json.dumps(asdict(peers.own())))
        while True:
            for rank in absent:
                if store.check([f"here/{rank}"]):
                    came[rank] = Peer(**json.loads(store.get(f"here/{rank}")))
            absent = [rank for rank in absent if rank not in came]
            _refuse_gone(came, process)
            if not absent:
                return [came[rank] for rank in range(process.size)]
            over = "" if time.monotonic() < deadline else f"{_named(absent)} did not come in {seconds:g} s"
            if over or store.check(["over"]):
                over = over or store.get("over").decode()
                store.set("over", over)
                time.sleep(2 * PAUSE if process.rank == 0 else 0)  # the others read it where rank 0 has the store
                raise Unreachable(over)
            if time.monotonic() >= next_said:
                next_said = time.monotonic() + SAID_EVERY
                waits.say(f"waiting for {_named(absent)} of {process.size} processes ...")
            time.sleep(PAUSE * (1 + process.size // 64))
    except RuntimeError as error:  # the store's end of the connection is closed
        _wait_for_end([came[0]] if 0 in came else [])
        _refuse_gone(came, process)
        holder = "torchrun's agent" if "TORCHELASTIC_RUN_ID" in os.environ else "rank 0"
        raise Gone(f"{holder} is gone before all ranks had come", says=_is_first(came, process)) from error


def _named(ranks: list[int]) -> str:
    return f"rank {ranks[0]}" if len(ranks) == 1 else f"ranks {peers.ranges(ranks)}"


def _wait_for_end(processes: Collection[Peer]) -> None:
    """Wait a moment until one of them has ended, where a connection to one of them broke."""
    ending = time.monotonic() + peers.ENDING
    while processes and not any(peer.is_gone for peer in processes) and time.monotonic() < ending:
        time.sleep(0.01)


def _refuse_gone(came: Mapping[int, Peer], process: LaunchedProcess) -> None:
    if gone := [rank for rank, peer in sorted(came.items()) if peer.is_gone]:
        known = [came.get(rank, peers.own()) for rank in range(process.size)]
        raise Gone(peers.missing(gone, known, gone=True), says=_is_first(came, process))


def _is_first(came: Mapping[int, Peer], process: LaunchedProcess) -> bool:
    """Whether no rank before this one lives on this machine."""
    here = peers.here()
    return not any(came[r].space == here and not came[r].is_gone for r in range(process.rank) if r in came)


def by_torchrun(process: LaunchedProcess) -> str:
    """The command that starts as many processes, on as many machines, by torchrun."""
    machines, here = -(-process.size // process.local_size), process.local_size
    if machines == 1:
        return f"torchrun --standalone --nproc-per-node {here} -m barlowctl ..."
    endpoint = shell.line("--rdzv-endpoint", f"{process.address}:{process.port}")
    return f"torchrun --nnodes {machines} --rdzv-backend c10d {endpoint} --nproc-per-node {here} -m barlowctl ..."


def wait_until_answered(address: str, port: int, seconds: float) -> None:
    """Wait until a store of torch's answers at a port, and leave it in peace.

    Raises:
        Unreachable: none did in so many seconds, or another program does, or no machine is known by that name.
    """
    begun = time.monotonic()
    answered = 0.0  # since when another program has
    while True:
        waited = time.monotonic() - begun
        try:
            patience = max(PAUSE, min(LONGEST_TRY, seconds - waited))
            with socket.create_connection((address, port), timeout=patience) as connection:
                if _is_store(connection, max(PAUSE, min(ANSWER_SECONDS, seconds - waited))):
                    return
            answered = answered or time.monotonic()
            if time.monotonic() - answered >= min(OTHER_SECONDS, seconds):
                raise Unreachable("another program listens there: it does not answer as rank 0 does")
        except (socket.gaierror, UnicodeError) as error:
            if waited >= min(UNKNOWN_SECONDS, seconds):
                why = getattr(error, "strerror", None) or error
                raise Unreachable(f"no machine is known here by the name '{address}' ({why})") from error
        except OSError as error:
            answered = 0.0
            if waited >= seconds:
                why = error.strerror or error
                raise Unreachable(f"nothing answered in {seconds:g} s ({why})") from error
        time.sleep(PAUSE)


def _is_store(connection: socket.socket, seconds: float) -> bool:
    """Whether torch's store answers; True too where the torch that is installed greets in a way unknown here."""
    return _returns_number(connection, seconds) or not _own_store_answers()


def _returns_number(connection: socket.socket, seconds: float) -> bool:
    with contextlib.suppress(OSError):
        connection.settimeout(seconds)
        connection.sendall(_HELLO + struct.pack("=I", _NUMBER))
        return connection.recv(4, socket.MSG_WAITALL) == struct.pack("=I", _NUMBER)
    return False


def _own_store_answers() -> bool:
    """Whether a store of the torch that is installed answers to the greeting: one of another release may not."""
    own = TCPStore("localhost", 0, is_master=True, wait_for_workers=False)
    with socket.create_connection(("localhost", own.port), timeout=LONGEST_TRY) as connection:
        return _returns_number(connection, LONGEST_TRY)
