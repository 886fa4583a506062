"""A word on a terminal while a command imports torch, which takes seconds. A leaf.

It is there before the commands themselves are imported, and gone when anything else is shown.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import TextIO

from barlowctl import program

TEXT = "loading torch ..."
_COMMANDS = ("pretrain", "ablate", "probe", "transfer", "embed", "export", "report", "doctor")
_OF_GROUPS = (("data", "preview"), *(("bench", task) for task in ("loss", "loader", "profile", "step")))
"""What imports torch; others answer at once."""
_SILENT = ("--json", "--quiet", "-q", "--help", "-h")

_shown_on: list[TextIO] = []


def show(arguments: Sequence[str], stream: TextIO | None) -> None:
    """Say on a terminal that a command which takes long to import is at work; nothing anywhere else.

    Args:
        arguments: what was typed after `barlowctl`. stream: where the command will write.
    """
    _, arguments = program.split(arguments)
    takes_long = arguments[:1] and (arguments[0] in _COMMANDS or tuple(arguments[:2]) in _OF_GROUPS)
    if not takes_long or set(arguments) & set(_SILENT) or stream is None or os.environ.get("TERM") in (None, "dumb"):
        return
    with suppress(OSError, ValueError):
        if stream.isatty() and not in_a_notebook():
            stream.write(f"{TEXT}\r")  # what something else writes then begins where this does
            stream.flush()
            _shown_on.append(stream)


def erase() -> None:
    """Take it away, before anything else is shown."""
    while _shown_on:
        with suppress(OSError, ValueError):
            stream = _shown_on.pop()
            stream.write("\r\x1b[K")
            stream.flush()


def in_a_notebook() -> bool:
    """Whether this is the `!` of a notebook: a terminal to which nobody can type, and where no cursor moves up.

    Jupyter's server sets the one variable for its kernels, ipykernel the other under any program that shows notebooks.
    """
    return "JPY_PARENT_PID" in os.environ or "inline" in os.environ.get("MPLBACKEND", "")


def of_this_process() -> None:
    """`show` for what was typed; of several ranks the first one says it."""
    if all(os.environ.get(rank, "0") == "0" for rank in ("RANK", "SLURM_PROCID")):
        show(sys.argv[1:], sys.stdout)
