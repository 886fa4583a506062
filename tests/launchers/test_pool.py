"""Several processes of the command line, in the slots of a pool."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from barlowctl import __version__
from barlowctl.launchers import pool
from barlowctl.launchers.pool import Failure, Slot, run_all

CHECKOUT = Path(__file__).resolve().parents[2]
PROCESS = """#!{python}
import os, signal, time
from barlowctl import signals
signal.signal(signal.SIGTERM, lambda *_: (os.write({pipe}, b"asked to stop"), os._exit(0)))
signals.end_with_parent()
assert signals.ENDS_WITH not in os.environ  # what it starts itself does not end with it
os.write({pipe}, b"works, ")
time.sleep(60)
os.write({pipe}, b"was left behind")
"""
POOL = """
import subprocess, sys
from pathlib import Path
from types import SimpleNamespace
from barlowctl.launchers import pool
class Popen(subprocess.Popen):
    def __init__(self, *words, **named):
        super().__init__(*words, **named, pass_fds=({pipe},))
pool.subprocess.Popen = Popen
sys.executable = "{process}"
task = SimpleNamespace(label="one", log=Path("{log}"))
pool.run_all([task], [pool.Slot("cpu", 1)], lambda task, slot: [], lambda task, what: None)
"""


@dataclass(frozen=True)
class Task:
    label: str
    log: Path
    words: tuple[str, ...]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("KILL", ", as the system does when memory runs out"),
        ("BUS", ", as the system does where a file that is read was cut short, or its disk fails"),
        ("SEGV", ""),
    ],
)
def test_a_process_that_was_killed_is_told_by_the_signal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, reason: str
) -> None:
    """What it had written until then is no reason."""
    monkeypatch.setattr(pool, "_start", lambda words, log, _: log.write_text("step 3") and subprocess.Popen(words))
    kill = ["sh", "-c", f"ulimit -c 0; kill -{name} $$"]
    failures = run_all([Task("a", tmp_path / "a.log", ())], [Slot("cpu", 1)], lambda *_: kill, lambda *_: None)
    assert failures == {"a": Failure(f"its process was ended by SIG{name}{reason}")}


def test_each_task_has_its_log_and_hands_over_why_it_fails(tmp_path: Path) -> None:
    version = Task("version", tmp_path / "logs" / "version.log", ("--version",))
    wrong = Task("wrong", tmp_path / "logs" / "wrong.log", ("recipes", "show", "quickstar"))
    reported: list[tuple[str, str | None]] = []
    failures = run_all(
        [version, wrong],
        [Slot("cpu", 1)],
        lambda task, slot: [*task.words],
        lambda task, what: reported.append((task.label, what)),
    )
    assert version.log.read_text().strip() == f"barlowctl {__version__}"
    assert list(failures) == ["wrong"]
    reason = failures["wrong"].reason
    assert "did you mean 'quickstart'" in reason
    assert not reason.startswith("error")
    assert failures["wrong"].advice == "barlowctl recipes list"
    assert reported == [("version", "started"), ("version", None), ("wrong", "started"), ("wrong", reason)]


def test_a_process_that_hands_nothing_over_is_told_by_its_last_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "a.log"
    monkeypatch.setattr(pool, "_start", lambda words, *_: subprocess.Popen(words))
    words = ["sh", "-c", f"(echo error: no room; echo next: another) > {log}; exit 1"]
    failures = run_all([Task("a", log, ())], [Slot("cpu", 1)], lambda *_: words, lambda *_: None)
    assert failures == {"a": Failure("no room")}


@pytest.mark.skipif(sys.platform != "linux", reason="Linux tells a process that the one that started it is gone")
def test_processes_are_asked_to_stop_when_whoever_started_them_is_killed(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    process = tmp_path / "process"
    process.write_text(PROCESS.format(python=sys.executable, pipe=writing))
    process.chmod(0o755)
    script = POOL.format(pipe=writing, process=process, log=tmp_path / "log")
    pool = subprocess.Popen([sys.executable, "-c", script], pass_fds=(writing,), cwd=CHECKOUT,
                            env={**os.environ, "PYTHONPATH": str(CHECKOUT)})  # fmt: skip
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        assert pipe.read(len("works, ")) == b"works, "
        pool.kill()
        assert pipe.read() == b"asked to stop"
    pool.wait()
