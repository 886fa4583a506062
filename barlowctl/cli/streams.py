"""The standard streams of a process: there from its start, and known again in an error of theirs."""

from __future__ import annotations

import io
import os
import sys
from contextlib import suppress
from typing import Any

from barlowctl.errors import UserError

NAME = "<stdout>"


class _Output(io.FileIO):
    """Standard output, whose errors bear its name: of a full disk they would else be any file's."""

    def write(self, octets: Any) -> int:
        try:
            return super().write(octets)
        except OSError as error:
            error.filename = NAME
            raise


def open_streams() -> None:
    """Streams for a process that was started without (`>&-`, some services), which lead to nothing; and `_Output`.

    Python has None in their place, and the next file that is opened would get their number, and what a library writes.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            null = os.open(os.devnull, os.O_RDWR)
            if null != number:
                os.dup2(null, number)
                os.close(null)
            setattr(sys, name, os.fdopen(number, "w" if number else "r", encoding="utf-8", closefd=False))
    stream = sys.stdout
    if isinstance(stream, io.TextIOWrapper) and not stream.isatty():
        stream.flush()
        sys.stdout = io.TextIOWrapper(
            io.BufferedWriter(_Output(stream.fileno(), "wb", closefd=False)),
            encoding=stream.encoding,
            errors=stream.errors,
            line_buffering=stream.line_buffering,
            write_through=stream.write_through,
        )


def refused_output(error: OSError) -> UserError | None:
    """The error of a standard output that takes no more, to which nothing is written after; None: it is another one."""
    if error.filename != NAME or error.errno is None:
        return None
    forget(sys.stdout)
    return UserError(
        f"standard output cannot be written: {os.strerror(error.errno).lower()}",
        allowed="a terminal, a pipe, or a file with room for it",
        next="make room where the output goes, or send it to another place",
    )


def forget(stream: Any) -> None:
    """Let what is still written to a stream whose reader is gone vanish without an error."""
    with suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)


def allow_any_text() -> None:
    """Let standard output take any text: what its encoding lacks is escaped, where Python would raise an error."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure") and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")
