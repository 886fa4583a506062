"""Standard streams that are closed, full, or that nobody reads any more."""

from __future__ import annotations

import errno
import io
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from barlowctl.cli import streams
from barlowctl.cli.app import run as barlowctl

CHECKOUT = Path(__file__).resolve().parents[2]


def started(words: Sequence[str], *closed: int) -> subprocess.CompletedProcess[str]:
    """A process of its own, started without some of its standard streams."""
    return subprocess.run(
        [sys.executable, "-m", "barlowctl", *words],
        capture_output=True,
        text=True,
        check=False,
        cwd=CHECKOUT,
        preexec_fn=lambda: [os.close(number) for number in closed],  # type: ignore[arg-type, return-value]
    )


@pytest.mark.parametrize(("words", "closed", "code"), [(["--version"], (0, 1), 0), (["nothing"], (0, 1, 2), 2)])
def test_a_command_without_standard_streams_ends_as_with_them(
    words: list[str], closed: tuple[int, ...], code: int
) -> None:
    """A service manager may start a process without them."""
    process = started(words, *closed)
    assert (process.returncode, process.stdout) == (code, "")
    assert "Traceback" not in process.stderr


class Full(io.RawIOBase):
    """What a standard output on a full disk says."""

    def writable(self) -> bool:
        return True

    def write(self, octets: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), streams.NAME)


@pytest.mark.parametrize("flags", [[], ["--json"]])
def test_a_standard_output_that_is_full_is_bad_input(
    flags: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is no fault of ours, and no traceback."""
    monkeypatch.setattr(streams, "forget", lambda stream: monkeypatch.setattr(sys, "stdout", io.StringIO()))
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BufferedWriter(Full()), encoding="utf-8"))
    assert barlowctl(["recipes", "list", *flags]) == 2
    assert "error: standard output cannot be written: no space left on device\n" in capsys.readouterr().err


def test_an_error_of_standard_output_bears_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of any other file it stays what it was."""
    (tmp_path / "out").touch()
    with open(tmp_path / "out", "rb") as not_for_writing:
        stream = streams._Output(not_for_writing.fileno(), "wb", closefd=False)
        with pytest.raises(OSError, match=streams.NAME) as raised:
            stream.write(b"x")
    assert streams.refused_output(OSError(errno.ENOSPC, "full", "other")) is None
    monkeypatch.setattr(streams, "forget", lambda stream: None)
    assert streams.refused_output(raised.value) is not None


@pytest.mark.parametrize("flag", ["--help", "--version"])
def test_a_reader_that_has_seen_enough_is_no_failure(flag: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """`barlowctl --help | head -1` in a script that stops at the first failure."""

    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    monkeypatch.setattr(sys, "stdout", Gone())
    assert barlowctl([flag]) == 0
