"""Where the processes of a run meet: torch's store, once it answers there and all have come, or why not."""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from torch.distributed import PrefixStore, TCPStore  # type: ignore[attr-defined]  # documented names

from barlowctl import peers, shell, waits
from barlowctl.errors import UserError
from barlowctl.launcher import LaunchedProcess
from barlowctl.peers import Peer
from barlowctl.signs_of_life import EVERY, SILENCE, SignsOfLife
from barlowctl.store_answer import PAUSE, Unreachable, wait_until_answered

__all__ = ["Gone", "Unreachable", "by_torchrun", "connect", "meet", "signs_in_store", "wait_until_all_came"]

SAID_EVERY = 60.0
"""Seconds after which it is said again whom a rank waits for."""
CONNECTING = "barlowctl-connecting"
"""Name of the thread that connects to the other ranks."""


class Gone(Exception):
    """A rank that had come is gone. says: whether no other rank that had come to this machine says so to the user."""

    def __init__(self, text: str, *, says: bool) -> None:
        super().__init__(text)
        self.says = says


def meet(process: LaunchedProcess, time_limit: float, *, cuda: bool = False) -> tuple[Any, list[Peer]]:
    """The store where the ranks meet, once all are there, and the process of each. `cuda`: this one is on a GPU.

    Rank 0 makes the store on its machine, unless torchrun's agent has.

    Torch prints frames of its own code where it does not find what it looks for, so it is asked only once a store
    answers. Rank 0 looks for its own store without its address: that the others do not reach it there is theirs to say.

    Raises:
        Unreachable: no store answered in `time_limit` seconds, or not all ranks came, or no machine is known by that
            name, or another program has the port.
        Gone: a rank that had come has ended since.
        UserError: some compute on a GPU, others on a CPU.
    """
    makes_store = _makes_store(process)
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
    store, computes_on = _of_this_attempt(store, process), "a GPU" if cuda else "its CPU"
    word = PrefixStore("barlowctl-meeting", store)
    came = wait_until_all_came(word, process, time_limit, begun, computes_on)
    _check_devices(came, process)
    return store, came


def _check_devices(came: Sequence[Peer], process: LaunchedProcess) -> None:
    """Refuse a machine whose GPUs nobody sees, where others compute on theirs: their sums would never meet.

    Raises:
        UserError: on every rank; rank 0 says it.
    """
    first, other = came[0], next((peer for peer in came if peer.computes_on != came[0].computes_on), None)
    if other is None:
        return
    if process.rank == 0:
        time.sleep(2 * PAUSE)  # the others read it where rank 0 has the store
    error = UserError(
        f"rank {came.index(other)} computes on {other.computes_on} ({other.host}), and rank 0 on {first.computes_on} "
        f"({first.host})",
        allowed="all ranks on GPUs, or all on CPUs: --device cuda, --device cpu",
        next="barlowctl doctor",
    )
    error.reported_elsewhere, error.alone = process.rank != 0, True
    raise error


def connect(
    call: Callable[[], object], peers: Sequence[Peer], process: LaunchedProcess, signs: SignsOfLife | None = None
) -> None:
    """Make a call that connects ranks which have met: in a thread, since it would wait for one that is gone.

    Args:
        peers: the process of each rank. signs: by which ranks on other machines are missed; None: they are not.

    Raises:
        Gone: a rank has ended meanwhile; the thread may go on (see `CONNECTING`).
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
            _refuse_gone(came, process, signs)
            _refuse_missed(came, process, signs)
    if failures:
        _wait_for_end(came.values())
        _refuse_gone(came, process, signs)
        raise failures[0]
    with contextlib.suppress(RuntimeError):  # who has the store may have gone on, and away
        if signs is not None:
            signs.connected()


def signs_in_store(process: LaunchedProcess, peers: Sequence[Peer]) -> SignsOfLife:
    """Signs of life of the ranks that have met, by a connection to the store that nobody waits on for long."""
    address = "localhost" if _makes_store(process) else process.address
    patience = datetime.timedelta(seconds=SILENCE)
    store = TCPStore(address, process.port, process.size, False, patience, wait_for_workers=False)
    return SignsOfLife(PrefixStore("barlowctl-signs", _of_this_attempt(store, process)), process, peers)


def _of_this_attempt(store: Any, process: LaunchedProcess) -> Any:
    """The store without what ranks left in it that torchrun has started anew since (`--max-restarts`).

    Its agent counts: those of several machines need not have come to the same number.
    """
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    is_first = attempt == "0" or process.local_size < process.size
    return store if is_first else PrefixStore(f"barlowctl-attempt-{attempt}", store)


def _makes_store(process: LaunchedProcess) -> bool:
    """Whether this rank makes the store: rank 0, unless torchrun's agent has."""
    return process.rank == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"


def wait_until_all_came(
    store: Any, process: LaunchedProcess, seconds: float, begun: float | None = None, computes_on: str = ""
) -> list[Peer]:
    """Wait until every rank has left word in a store, and say whom this one waits for. The process of each.

    Args:
        begun: since when the seconds count (`time.monotonic`); None: now. computes_on: see `Peer`.

    Raises:
        Unreachable: some did not in so many seconds.
        Gone: one that had, or the store, is gone.
    """
    deadline = (time.monotonic() if begun is None else begun) + seconds
    next_said = time.monotonic() + waits.SECONDS
    came: dict[int, Peer] = {}
    absent = list(range(process.size))
    try:
        store.set(f"here/{process.rank}", json.dumps(asdict(peers.own(computes_on))))
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
        raise Gone(f"{_holder()} is gone before all ranks had come", says=_is_first(came, process)) from error


def _named(ranks: list[int]) -> str:
    return f"rank {ranks[0]}" if len(ranks) == 1 else f"ranks {peers.ranges(ranks)}"


def _wait_for_end(processes: Collection[Peer]) -> None:
    """Wait a moment until one of them has ended, where a connection to one of them broke."""
    ending = time.monotonic() + peers.ENDING
    while processes and not any(peer.is_gone for peer in processes) and time.monotonic() < ending:
        time.sleep(0.01)


def _refuse_gone(came: Mapping[int, Peer], process: LaunchedProcess, signs: SignsOfLife | None = None) -> None:
    """Raise Gone where a process of this machine has ended, and let the other machines know."""
    if gone := [rank for rank, peer in sorted(came.items()) if peer.is_gone]:
        known = [came.get(rank, peers.own()) for rank in range(process.size)]
        why = peers.missing(gone, known, gone=True)
        with contextlib.suppress(RuntimeError):  # the store may be what is gone
            if signs is not None:
                signs.tell(why)
        _let_read(process, signs)
        raise Gone(why, says=_is_first(came, process))


def _refuse_missed(came: Mapping[int, Peer], process: LaunchedProcess, signs: SignsOfLife | None) -> None:
    """Raise Gone where a rank of any machine is missed, or the store."""
    try:
        why = None if signs is None else signs.look()
    except RuntimeError:
        _wait_for_end([came[0]])
        _refuse_gone(came, process)
        why = f"{_holder()} is gone before all ranks were connected"
    if why is not None:
        _let_read(process, signs)
        raise Gone(why, says=_is_first(came, process))


def _let_read(process: LaunchedProcess, signs: SignsOfLife | None) -> None:
    """Let the others read why before this rank ends, which may have the store."""
    if signs is not None and process.rank == 0:
        time.sleep(EVERY + 2 * PAUSE)


def _holder() -> str:
    return "torchrun's agent" if "TORCHELASTIC_RUN_ID" in os.environ else "rank 0"


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
