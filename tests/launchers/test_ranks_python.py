"""The process that starts ranks: they run in its Python, whatever torchrun's variable says, and it stays as it was."""

from __future__ import annotations

import os
import re
import signal
import time

import pytest

from barlowctl.distributed import RankLost
from barlowctl.errors import UserError
from barlowctl.launchers import ranks
from barlowctl.launchers.ranks import run_ranks


def test_another_python_is_refused_before_anything_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHON_EXEC", "/opt/other/python")
    with pytest.raises(UserError, match="PYTHON_EXEC is '/opt/other/python'") as raised:
        run_ranks(["pretrain"], 2)
    assert raised.value.next == "unset PYTHON_EXEC"


def test_the_process_that_starts_ranks_is_afterwards_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    environment = dict(os.environ)
    handlers = {number: signal.getsignal(number) for number in signal.valid_signals()}
    assert run_ranks(["--version"], 2) == 0
    assert {number: signal.getsignal(number) for number in signal.valid_signals()} == handlers
    assert dict(os.environ) == environment


@pytest.mark.dist
def test_a_rank_that_is_killed_before_it_can_say_anything_is_named_by_the_launcher(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dying = "import os, time; os.kill(os.getpid(), 9) if os.environ['RANK'] == '1' else time.sleep(300)"
    monkeypatch.setattr(ranks.program, "own_words", lambda: ["-c", dying])
    begun = time.monotonic()
    with pytest.raises(RankLost) as raised:
        run_ranks(["pretrain"], 2)
    assert time.monotonic() - begun < 100
    process = re.fullmatch(
        r"rank 1 of 2 is gone: its process \d+ was killed by SIGKILL; the other was ended before anything was trained",
        raised.value.message,
    )
    assert process
    assert raised.value.exit_code == 4
    assert raised.value.next == "barlowctl ..."


@pytest.mark.parametrize(
    ("given", "threads"),
    [({}, "4"), ({"OMP_NUM_THREADS": "1"}, "1"), ({"MKL_NUM_THREADS": "3"}, "3"), ({"SLURM_CPUS_PER_TASK": "4"}, "2")],
)
def test_ranks_have_the_number_of_threads_that_was_set_or_their_share(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, str], threads: str
) -> None:
    monkeypatch.setattr(ranks, "usable_cores", lambda: 8)
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "SLURM_CPUS_PER_TASK"):
        monkeypatch.delenv(variable, raising=False)
    for variable, value in given.items():
        monkeypatch.setenv(variable, value)
    started: list[str] = []
    launch = lambda *_: lambda *_: started.append(os.environ["OMP_NUM_THREADS"])  # noqa: E731
    monkeypatch.setattr(ranks, "elastic_launch", launch)
    assert run_ranks(["pretrain"], 2) == 0
    assert started == [threads]
