"""Ranks that look for one another: found late, or not at all, with the reason in a line."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from barlowctl import meeting
from barlowctl.launcher import LaunchedProcess
from tests.dist.gang import free_port


def test_what_begins_to_listen_is_waited_for() -> None:
    port, listener = free_port(), socket.socket()

    def listen() -> None:
        listener.bind(("127.0.0.1", port))
        listener.listen()

    later = threading.Timer(0.5, listen)
    later.start()
    begun = time.monotonic()
    meeting.wait_until_answered("127.0.0.1", port, 30.0)
    assert time.monotonic() - begun >= 0.5
    later.join()
    listener.close()


def test_where_nothing_answers_the_limit_is_said() -> None:
    with pytest.raises(meeting.Unreachable, match=r"^nothing answered in 0\.5 s \(.*refused\)$"):
        meeting.wait_until_answered("127.0.0.1", free_port(), 0.5)


@pytest.mark.parametrize("address", ["nohost.invalid", "two..points"])
def test_a_name_that_no_machine_has_is_said_long_before_the_limit(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    look_up = socket.getaddrinfo

    def without_a_network(host: Any, *arguments: Any, **options: Any) -> Any:
        if host == "nohost.invalid":
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return look_up(host, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", without_a_network)
    monkeypatch.setattr(meeting, "UNKNOWN_SECONDS", 0.1)
    with pytest.raises(meeting.Unreachable, match=f"^no machine is known here by the name '{address}' "):
        meeting.wait_until_answered(address, free_port(), 900.0)


@pytest.mark.parametrize(
    ("rank", "agent", "asked_of"),
    [
        (0, False, "tcp://localhost:5?rank=0&world_size=2"),
        (1, False, "tcp://[::1]:5?rank=1&world_size=2"),
        (0, True, "tcp://[::1]:5?rank=0&world_size=2"),
    ],
    ids=["rank 0 makes the store", "rank 1 joins it", "torchrun's agent has made it"],
)
def test_torch_is_asked_where_somebody_answered(
    rank: int, agent: bool, asked_of: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[object] = []

    def rendezvous(where: str, timeout: Any) -> Iterator[tuple[str, int, int]]:
        calls.append((where, timeout.total_seconds()))
        return iter([("store", rank, 2)])

    monkeypatch.setenv("TORCHELASTIC_USE_AGENT_STORE", str(agent))
    monkeypatch.setattr(meeting, "wait_until_answered", lambda *where: calls.append(where))
    monkeypatch.setattr(meeting, "rendezvous", rendezvous)
    assert meeting.meet(LaunchedProcess("torchrun", rank, 2, rank, 2, "::1", 5), 60.0) == "store"
    waited_for = [] if rank == 0 and not agent else [("::1", 5, 60.0)]
    assert calls == [*waited_for, (asked_of, 60.0)]
