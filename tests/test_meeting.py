"""Ranks that look for one another: found late, or not at all, with the reason in a line."""

from __future__ import annotations

import json
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import Any

import pytest
from torch.distributed import HashStore, PrefixStore, TCPStore

from barlowctl import meeting, peers, signs_of_life, store_answer, waits
from barlowctl.errors import UserError
from barlowctl.launcher import LaunchedProcess
from tests.dist.gang import free_port


def test_what_begins_to_listen_is_waited_for() -> None:
    port, stores = free_port(), []

    def listen() -> None:
        stores.append(TCPStore("127.0.0.1", port, is_master=True, wait_for_workers=False))

    later = threading.Timer(0.5, listen)
    later.start()
    begun = time.monotonic()
    store_answer.wait_until_answered("127.0.0.1", port, 30.0)
    assert time.monotonic() - begun >= 0.5
    later.join()


def test_where_nothing_answers_the_limit_is_said() -> None:
    with pytest.raises(meeting.Unreachable, match=r"^nothing answered in 0\.5 s \(.*refused\)$"):
        store_answer.wait_until_answered("127.0.0.1", free_port(), 0.5)


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
    monkeypatch.setattr(store_answer, "UNKNOWN_SECONDS", 0.1)
    with pytest.raises(meeting.Unreachable, match=f"^no machine is known here by the name '{address}' "):
        store_answer.wait_until_answered(address, free_port(), 900.0)


def answer(listener: socket.socket, *, greeting: bytes, replies: bytes) -> None:
    """What another program does with each connection."""
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        with connection:
            connection.sendall(greeting)
            if replies and connection.recv(64):
                connection.sendall(replies)


@pytest.mark.parametrize(
    ("greeting", "replies"),
    [(b"", b""), (b"SSH-2.0-OpenSSH_9.2\r\n", b""), (b"", b"HTTP/1.1 400 Bad Request\r\n\r\n")],
    ids=["it hangs up", "it greets", "it replies"],
)
def test_another_program_at_the_port_is_no_store(
    greeting: bytes, replies: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_answer, "OTHER_SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=answer, args=(listener,), kwargs={"greeting": greeting, "replies": replies}).start()
        with pytest.raises(meeting.Unreachable, match=r"^another program listens there"):
            store_answer.wait_until_answered("127.0.0.1", listener.getsockname()[1], 30.0)
        listener.shutdown(socket.SHUT_RDWR)


def test_a_listener_that_never_answers_is_no_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_answer, "OTHER_SECONDS", 0.0)
    monkeypatch.setattr(store_answer, "ANSWER_SECONDS", 0.3)
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        pytest.raises(meeting.Unreachable, match=r"^another program listens there"),
    ):
        store_answer.wait_until_answered("127.0.0.1", listener.getsockname()[1], 30.0)


def test_the_store_of_the_torch_that_is_installed_answers_to_the_greeting() -> None:
    assert store_answer._own_store_answers()


def test_where_torch_greets_in_another_way_it_is_left_to_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """And within seconds, not after all that one may wait for an answer."""
    monkeypatch.setattr(store_answer, "_GREETING", b"\xff" * 10)
    monkeypatch.setattr(store_answer, "LONGEST_TRY", 0.3)
    store = TCPStore("localhost", 0, is_master=True, wait_for_workers=False)
    begun = time.monotonic()
    store_answer.wait_until_answered("localhost", store.port, 30.0)
    assert time.monotonic() - begun < store_answer.ANSWER_SECONDS / 2


@pytest.mark.parametrize(
    ("rank", "agent", "made_at", "makes"),
    [(0, False, "localhost", True), (1, False, "::1", False), (0, True, "::1", False)],
    ids=["rank 0 makes the store", "rank 1 joins it", "torchrun's agent has made it"],
)
def test_torch_is_asked_where_a_store_answered(
    rank: int, agent: bool, made_at: str, makes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[object] = []

    def store(host: str, port: int, size: int, is_master: bool, limit: Any, **options: Any) -> str:
        calls.append((host, port, size, is_master, limit.total_seconds()))
        assert options == {"wait_for_workers": False, "multi_tenant": makes}
        return "store"

    monkeypatch.setenv("TORCHELASTIC_USE_AGENT_STORE", str(agent))
    monkeypatch.setattr(meeting, "wait_until_answered", lambda *where: calls.append(where))
    monkeypatch.setattr(meeting, "TCPStore", store)
    monkeypatch.setattr(meeting, "PrefixStore", lambda prefix, store: store)

    def all_came(*_: object) -> list[peers.Peer]:
        calls.append("all came")
        return [peers.own()]

    monkeypatch.setattr(meeting, "wait_until_all_came", all_came)
    met = meeting.meet(LaunchedProcess("torchrun", rank, 2, rank, 2, "::1", 5), 60.0)
    assert met == ("store", [peers.own()])
    waited_for = [] if makes else [("::1", 5, 60.0)]
    assert calls == [*waited_for, (made_at, 5, 2, makes, 60.0), "all came"]


RANK_0_OF_4 = LaunchedProcess("torchrun", 0, 4, 0, 4, "127.0.0.1", 5)


@pytest.fixture
def store() -> HashStore:
    """A store as of four ranks, of which rank 1 has come and lives."""
    store = HashStore()
    store.set("here/1", json.dumps(asdict(peers.own())))
    return store


@pytest.fixture
def texts(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What is said of waits, from the first moment on."""
    texts: list[str] = []
    monkeypatch.setattr(waits, "SECONDS", 0.0)
    waits.listen(texts.append)
    yield texts
    waits.listen(None)


def test_who_does_not_come_is_named_while_it_is_waited_for_and_at_the_end(store: HashStore, texts: list[str]) -> None:
    with pytest.raises(meeting.Unreachable, match=r"^ranks 2 to 3 did not come in 0\.5 s$"):
        meeting.wait_until_all_came(store, RANK_0_OF_4, 0.5)
    assert texts == ["waiting for ranks 2 to 3 of 4 processes ..."]


def test_all_who_came_go_on(store: HashStore) -> None:
    for rank in (2, 3):
        store.set(f"here/{rank}", json.dumps(asdict(peers.own())))
    meeting.wait_until_all_came(store, RANK_0_OF_4, 0.0)


def ended() -> peers.Peer:
    """A process that was there, and is gone."""
    process = subprocess.Popen(["true"])
    process.wait()
    return replace(peers.own(), number=process.pid)


def test_a_rank_that_came_and_is_gone_ends_the_waiting(store: HashStore) -> None:
    gone = ended()
    store.set("here/2", json.dumps(asdict(gone)))
    message = f"^rank 2 is gone: its process {gone.number} was killed or crashed$"
    with pytest.raises(meeting.Gone, match=message) as first:
        meeting.wait_until_all_came(store, RANK_0_OF_4, 900.0)
    with pytest.raises(meeting.Gone, match=message) as second:
        meeting.wait_until_all_came(store, replace(RANK_0_OF_4, rank=3, local_rank=3), 900.0)
    assert first.value.says
    assert not second.value.says


def test_what_connects_is_not_waited_for_once_a_rank_is_gone() -> None:
    never = threading.Event()
    gone = ended()
    with pytest.raises(meeting.Gone, match=f"^rank 1 is gone: its process {gone.number} was killed or crashed$"):
        meeting.connect(never.wait, [peers.own(), gone], RANK_0_OF_4)
    never.set()


def test_what_connects_says_why_it_could_not() -> None:
    def refuses() -> None:
        raise RuntimeError("no such interface")

    with pytest.raises(RuntimeError, match="no such interface"):
        meeting.connect(refuses, [peers.own()], RANK_0_OF_4)
    with pytest.raises(meeting.Gone):  # which is why
        meeting.connect(refuses, [peers.own(), ended()], RANK_0_OF_4)


def test_a_store_that_goes_with_rank_0_ends_the_waiting(store: HashStore, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = ended()

    class Lost:
        def set(self, key: str, value: str) -> None: ...
        def check(self, keys: list[str]) -> bool:
            if keys == ["here/1"]:
                raise RuntimeError("Connection reset by peer")
            return True

        def get(self, key: str) -> str:
            return json.dumps(asdict(gone))

    with pytest.raises(meeting.Gone, match=f"^rank 0 is gone: its process {gone.number} was killed or crashed$"):
        meeting.wait_until_all_came(Lost(), replace(RANK_0_OF_4, rank=3), 900.0)


def test_a_machine_whose_gpus_nobody_sees_is_named_where_others_compute_on_theirs(store: HashStore) -> None:
    came = [peers.own("a GPU"), replace(peers.own("its CPU"), host="node7")]
    with pytest.raises(
        UserError, match=r"^rank 1 computes on its CPU \(node7\), and rank 0 on a GPU \(.+\)$"
    ) as raised:
        meeting._check_devices(came, RANK_0_OF_4)
    assert raised.value.reported_elsewhere is False
    with pytest.raises(UserError) as raised:
        meeting._check_devices(came, replace(RANK_0_OF_4, rank=1))
    assert raised.value.reported_elsewhere is True
    meeting._check_devices([came[1], came[1]], RANK_0_OF_4)
    meeting.wait_until_all_came(store, replace(RANK_0_OF_4, size=2), 1.0, computes_on="a GPU")
    assert json.loads(store.get("here/0"))["computes_on"] == "a GPU"


def test_a_rank_that_is_gone_elsewhere_ends_the_connecting_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rank 1 is on a machine of which nothing is known, and leaves no sign; rank 2 is told by rank 0."""
    monkeypatch.setattr(signs_of_life, "SILENCE", 0.5)
    monkeypatch.setattr(signs_of_life, "EVERY", 0.1)
    monkeypatch.setattr(meeting, "PAUSE", 0.05)
    store, never = HashStore(), threading.Event()
    came = [peers.own(), peers.Peer("node1", "elsewhere", 7), peers.own()]
    texts = dict[int, str]()

    def connecting(rank: int) -> None:
        process = replace(RANK_0_OF_4, rank=rank, size=3, local_rank=rank)
        try:
            meeting.connect(never.wait, came, process, signs_of_life.SignsOfLife(store, process, came))
        except meeting.Gone as gone:
            texts[rank] = str(gone)

    ranks = [threading.Thread(target=connecting, args=(rank,)) for rank in (0, 2)]
    begun = time.monotonic()
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join(30)
    assert texts == dict.fromkeys((0, 2), "rank 1 on node1 is gone or does not answer")
    assert 0.5 < time.monotonic() - begun < 20
    never.set()


def test_a_process_that_is_gone_here_ends_the_connecting_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meeting, "EVERY", 0.1)
    store, gone = HashStore(), ended()
    process = replace(RANK_0_OF_4, size=3)
    came, never = [peers.own(), gone, peers.Peer("node1", "elsewhere", 7)], threading.Event()
    with pytest.raises(meeting.Gone, match=r"^rank 1 is gone: its process"):
        meeting.connect(never.wait, came, process, signs_of_life.SignsOfLife(store, process, came))
    never.set()
    elsewhere = signs_of_life.SignsOfLife(store, replace(process, rank=2), came)
    assert elsewhere.look() == f"rank 1 is gone: its process {gone.number} was killed or crashed"


def test_who_has_connected_is_not_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    """It leaves no more signs. One that is slow and still leaves them is not missed either."""
    monkeypatch.setattr(signs_of_life, "SILENCE", 0.3)
    monkeypatch.setattr(signs_of_life, "EVERY", 0.05)
    store = HashStore()
    first, slow, done = (
        signs_of_life.SignsOfLife(store, replace(RANK_0_OF_4, rank=rank, size=3), [peers.own()] * 3)
        for rank in range(3)
    )
    meeting.connect(lambda: None, [peers.own()] * 3, replace(RANK_0_OF_4, rank=2, size=3), done)
    until = time.monotonic() + 0.8
    while time.monotonic() < until:
        assert slow.look() is None
        assert first.look() is None
        time.sleep(0.02)
    time.sleep(0.4)
    assert first.look() == "rank 1 is gone or does not answer"


def test_a_store_that_is_gone_ends_the_connecting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "ENDING", 0.1)
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)

    class Lost:
        def set(self, key: str, value: str) -> None:
            raise RuntimeError("Connection reset by peer")

    never, process = threading.Event(), replace(RANK_0_OF_4, rank=1, size=2)
    came = [peers.Peer("node0", "elsewhere", 7), peers.own()]
    with pytest.raises(meeting.Gone, match=r"^rank 0 is gone before all ranks were connected$"):
        meeting.connect(never.wait, came, process, signs_of_life.SignsOfLife(Lost(), process, came))
    never.set()


def test_signs_are_left_in_the_store_that_the_ranks_met_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TORCHELASTIC_USE_AGENT_STORE", raising=False)
    store = TCPStore("localhost", 0, is_master=True, wait_for_workers=False)
    process = LaunchedProcess("torchrun", 0, 2, 0, 2, "127.0.0.1", store.port)
    came = [peers.own()] * 2
    signs = [meeting.signs_in_store(replace(process, rank=rank), came) for rank in range(2)]
    signs[1].tell("rank 0 is gone")
    assert signs[0].look() == "rank 0 is gone"


def test_ranks_that_torchrun_starts_anew_read_nothing_of_those_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """The agent's store is the same: what they left there are processes that are gone."""
    monkeypatch.delenv("TORCHELASTIC_USE_AGENT_STORE", raising=False)
    server = TCPStore("localhost", 0, is_master=True, wait_for_workers=False)
    monkeypatch.setattr(meeting, "TCPStore", lambda *_, **__: server)
    process = LaunchedProcess("torchrun", 0, 2, 0, 2, "127.0.0.1", server.port)
    came = {"here/1": json.dumps(asdict(replace(peers.own("its CPU"), number=ended().number)))}
    before = PrefixStore("barlowctl-meeting", server)
    before.set("here/1", came["here/1"])
    with pytest.raises(meeting.Gone):
        meeting.meet(process, 5.0)
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    with pytest.raises(meeting.Unreachable, match="rank 1 did not come"):
        meeting.meet(process, 0.3)
    word = PrefixStore("barlowctl-meeting", PrefixStore("barlowctl-attempt-1", server))
    word.set("here/1", json.dumps(asdict(peers.own("its CPU"))))
    word.delete_key("over")
    store, both = meeting.meet(process, 5.0)
    assert [peer.number for peer in both] == [peers.own().number] * 2
    store.set("left", "word")
    assert PrefixStore("barlowctl-attempt-1", server).get("left") == b"word"
    elsewhere = replace(process, local_size=1)  # of two machines
    with pytest.raises(meeting.Gone):
        meeting.meet(elsewhere, 5.0)
