"""A rank that leaves by an error: with its exit code, and with everybody's state saved where they can still agree."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from barlowctl import distributed
from barlowctl.errors import RunStopped
from barlowctl.peers import own
from barlowctl.train import checkpoint
from tests.dist import gang, work
from tests.dist.work import Run

LEAVING = """
import sys, torch
from barlowctl.distributed import joined
from barlowctl.errors import RunStopped
code = 0
try:
    with joined(cuda=False) as ranks:
        ranks.add(torch.ones(1 << 20))
        raise RunStopped("stopped")
except RunStopped as error:
    code = error.exit_code
sys.exit(code)
"""


@pytest.mark.slow
@pytest.mark.dist
def test_ranks_leave_with_their_exit_code() -> None:
    """Interpreters that end for real: before, about every second one aborted under its closing thread."""
    codes: list[int] = []
    for _ in range(5):
        port = str(gang.free_port())
        place = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        ranks = [
            subprocess.Popen(
                [sys.executable, "-c", LEAVING],
                env={**os.environ, **place, "RANK": str(rank), "LOCAL_RANK": str(rank)},
                stderr=subprocess.DEVNULL,
            )
            for rank in range(2)
        ]
        codes += [rank.wait(300) for rank in ranks]
    assert codes == [3] * 10


@pytest.fixture
def closing(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """A group of two, of which this process is one; its connections are closed once the event is set."""
    allowed = threading.Event()
    values = {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}
    for name, value in values.items():
        monkeypatch.setenv(name, value)

    class Store:
        def set(self, key: str, value: str) -> None: ...
        def check(self, keys: list[str]) -> bool:
            return False

    monkeypatch.setattr(distributed, "LAST_WORDS", 0.5)
    monkeypatch.setattr(distributed, "PrefixStore", lambda name, store: store)
    monkeypatch.setattr(distributed, "meet", lambda *_, cuda: (Store(), [own(), own()]))
    monkeypatch.setattr(distributed, "signs_in_store", lambda *_: None)
    monkeypatch.setattr(distributed.dist, "init_process_group", lambda *_, **__: None)
    monkeypatch.setattr(distributed.dist, "destroy_process_group", lambda: allowed.wait(30))
    yield allowed
    allowed.set()


def leave() -> None:
    with pytest.raises(RunStopped), distributed.joined(cuda=False):
        raise RunStopped("stopped")


def test_the_closing_of_connections_is_waited_for(closing: threading.Event) -> None:
    timer = threading.Timer(0.2, closing.set)
    timer.start()
    leave()
    assert closing.is_set()
    assert not distributed.is_closing()


def test_a_closing_that_hangs_costs_a_moment_and_not_the_exit_code(
    closing: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    from barlowctl.cli import app

    start = time.monotonic()
    leave()
    assert time.monotonic() - start < 10
    assert distributed.is_closing()
    left: list[int] = []

    def exit_now(code: int) -> None:
        left.append(code)
        raise SystemExit

    monkeypatch.setattr(app, "run", lambda arguments: 3)
    monkeypatch.setattr(app.signal, "signal", lambda *_: None)
    monkeypatch.setattr(os, "_exit", exit_now)
    with pytest.raises(SystemExit):
        app.main([])
    assert left == [3]


@pytest.mark.dist
@pytest.mark.parametrize("deferred", [None, True], ids=["at once", "read later"])
def test_an_error_of_the_loader_on_one_rank_saves_the_state_of_all(tmp_path: Path, deferred: bool | None) -> None:
    """It takes the step on an earlier batch, to say so with that step's sums: which counts on no rank."""
    run = Run(batches=5, epochs=2, deferred=deferred)
    members = gang.start(work.train_until_an_image_is_damaged, 2, run, str(tmp_path / "parts"), 7)
    (kind, first), (other, second) = gang.answers(members)
    assert (kind, other) == ("RankLost", "UserError")
    assert "rank 0 of 2 stopped: rank 1 failed" in first
    assert "sample 7; the state of step 6 is saved" in second
    assert checkpoint.load_latest(tmp_path / "parts").state.step == 6
    resumed: list[Any] = gang.together(work.train, 2, run, str(tmp_path / "parts"), None, True)
    whole: list[Any] = gang.together(work.train, 2, run, str(tmp_path / "whole"))
    assert (resumed[0]["path"][-1] == whole[0]["path"][-1]).all()


@pytest.mark.dist
def test_a_record_that_cannot_be_written_ends_all_where_a_checkpoint_is_due(tmp_path: Path) -> None:
    """The ranks that hear of it a step later write that checkpoint, and so does this one."""
    run = Run(batches=5, epochs=2, every_steps=1)
    (kind, text), (other, heard) = gang.answers(
        gang.start(work.train_until_a_record_fails, 2, run, str(tmp_path), 7, limit=60.0)
    )
    assert (kind, other) == ("UserError", "RankLost")
    assert "no room; the state of step 7 is saved" in text
    assert "rank 1 of 2 stopped: rank 0 failed" in heard
    assert checkpoint.load_latest(tmp_path).state.step == 7
