"""A word on a terminal while torch is imported, and nothing of it anywhere else."""

from __future__ import annotations

import io
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from barlowctl import starting

LOADING, GONE = "loading torch ...\r", "\r\x1b[K"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def a_terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Of a usual kind, and no notebook's."""
    monkeypatch.setenv("TERM", "xterm")
    for name in ("JPY_PARENT_PID", "MPLBACKEND"):
        monkeypatch.delenv(name, raising=False)
    yield
    starting._shown_on.clear()


@pytest.mark.parametrize(
    ("typed", "appears"),
    [
        ("probe", True),
        ("pretrain --recipe quickstart", True),
        ("bench loss", True),
        ("data preview --data x", True),
        ("data pack x y", False),
        ("bench", False),
        ("runs list", False),
        ("", False),
        ("--version", False),
        ("probe --help", False),
        ("probe x --json", False),
        ("embed x -q", False),
    ],
)
def test_it_is_shown_for_commands_that_take_long_and_taken_away(typed: str, appears: bool) -> None:
    stream = Terminal()
    starting.show(typed.split(), stream)
    assert stream.getvalue() == (LOADING if appears else "")
    starting.erase()
    starting.erase()
    assert stream.getvalue() == (LOADING + GONE if appears else "")


@pytest.mark.parametrize(
    ("name", "value"), [("TERM", "dumb"), ("JPY_PARENT_PID", "1"), ("MPLBACKEND", "module://inline")]
)
def test_terminals_that_take_nothing_away_have_nothing(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    stream = Terminal()
    starting.show(["probe"], stream)
    assert stream.getvalue() == ""


@pytest.mark.parametrize(
    ("environment", "appears"),
    [({}, True), ({"RANK": "0"}, True), ({"RANK": "1"}, False), ({"SLURM_PROCID": "3"}, False)],
)
def test_of_several_ranks_the_first_one_says_it(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], appears: bool
) -> None:
    for name in ("RANK", "SLURM_PROCID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    stream = Terminal()
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setattr(sys, "argv", ["barlowctl", "probe"])
    starting.of_this_process()
    assert stream.getvalue() == (LOADING if appears else "")


def test_a_pipe_and_a_closed_stream_have_nothing() -> None:
    stream, closed = io.StringIO(), Terminal()
    closed.close()
    for other in (stream, closed, None):
        starting.show(["probe"], other)
    starting.erase()
    assert stream.getvalue() == ""


def test_what_takes_long_is_what_there_is() -> None:
    """A command that is renamed would be silent again."""
    from barlowctl.cli.app import commands

    tree = commands().commands
    assert set(starting._COMMANDS) <= set(tree)
    assert all(name in tree[group].commands for group, name in starting._OF_GROUPS)
    assert set(tree["bench"].commands) == {name for group, name in starting._OF_GROUPS if group == "bench"}


def test_a_command_on_a_terminal_begins_with_it_and_an_error_is_alone(tmp_path: Path) -> None:
    above, below = pty.openpty()
    command = [sys.executable, "-m", "barlowctl", "probe", "no/such.pth"]
    with subprocess.Popen(command, stdin=below, stdout=below, stderr=below, cwd=tmp_path, close_fds=True) as process:
        os.close(below)
        written = b""
        try:
            while part := os.read(above, 1 << 16):
                written += part
        except OSError:  # the other end is closed
            pass
    os.close(above)
    assert process.returncode == 2
    assert written.decode().startswith(f"{LOADING}{GONE}error: 'no/such.pth' does not exist")
