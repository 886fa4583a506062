"""The processes of a run's ranks: which of them are there, and what is said of those that are not."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence

import pytest

from barlowctl import peers
from barlowctl.peers import Peer, last_words, missing


def ended(*, waited_for: bool) -> tuple[Peer, subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", ""])
    while waited_for and process.poll() is None:
        time.sleep(0.01)
    return Peer(peers.own().host, peers.here(), process.pid), process


def test_this_process_is_there() -> None:
    assert not peers.own().is_gone


@pytest.mark.parametrize("waited_for", [True, False])
def test_a_process_that_has_ended_is_gone_also_before_its_parent_asks(waited_for: bool) -> None:
    peer, process = ended(waited_for=waited_for)
    deadline = time.monotonic() + 60
    while not peer.is_gone:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.wait()


def test_of_a_process_elsewhere_nothing_is_known() -> None:
    peer, _ = ended(waited_for=True)
    assert peer.is_gone
    assert not Peer(peer.host, "another machine", peer.number).is_gone


NODES = tuple(Peer(f"node{rank // 4}", "elsewhere", 100 + rank) for rank in range(8))


@pytest.mark.parametrize(
    ("ranks", "of", "gone", "text"),
    [
        ([3], (), False, "rank 3 is gone or does not answer"),
        ([1, 3, 4, 5], (), False, "ranks 1, 3 to 5 are gone or do not answer"),
        ([4, 5, 6, 7], NODES, False, "ranks 4 to 7 on node1 are gone or do not answer"),
        ([2], NODES, True, "rank 2 is gone: its process 102 was killed or crashed"),
    ],
)
def test_who_is_missing_in_words(ranks: list[int], of: Sequence[Peer], gone: bool, text: str) -> None:
    assert missing(ranks, of, gone=gone) == text


class Store:
    """What ranks have said, as torch's store has it; None: its host is gone."""

    def __init__(self, words: dict[int, str] | None) -> None:
        self.words = words

    def check(self, keys: list[str]) -> bool:
        if self.words is None:
            raise RuntimeError("broken pipe")
        return int(keys[0].removeprefix("failed/")) in self.words

    def get(self, key: str) -> bytes:
        assert self.words is not None
        return self.words[int(key.removeprefix("failed/"))].encode()


def test_who_ended_without_a_word_is_told_from_who_left_for_it_and_who_is_slow() -> None:
    peer, _ = ended(waited_for=True)
    own = peers.own()
    everybody = [own, peer, peer, own]  # rank 1 left since rank 2 was gone; rank 3 has not noticed
    begun = time.monotonic()
    assert last_words(Store({1: ""}), everybody, (1, 2, 3), 60.0) == ({1: ""}, [2])
    assert time.monotonic() - begun < 30
    assert last_words(Store({1: "no image"}), everybody, (1, 2), 60.0) == ({1: "no image"}, [2])
    assert last_words(Store({1: ""}), everybody, (1, 3), 0.1) == ({1: ""}, [])
    assert last_words(Store({}), (), (1, 3), 0.1) == ({}, [])


def test_connections_close_before_their_process_has_ended() -> None:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(0.3)"])
    peer = Peer(peers.own().host, peers.here(), process.pid)
    assert last_words(Store(None), [peer, peers.own()], (0,), 60.0) == ({}, [0])
    process.wait()


def test_where_the_store_is_gone_so_is_its_host_and_others_may_have_left() -> None:
    peer, _ = ended(waited_for=True)
    assert last_words(Store(None), [peer, peer, peers.own()], (0, 1), 60.0) == ({}, [0])
    assert last_words(Store(None), [peers.own(), peer, peers.own()], (0, 1), 60.0) == ({}, [1])
