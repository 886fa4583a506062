"""How this process was started, for what starts it again: by `barlowctl`, or by a program that imports networks first.

Such a program registers its networks with timm and calls the command line, in one process: what is typed next, and
what is started beside it, begins as it did. A leaf: standard library only.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from barlowctl import shell

COMMANDS = (
    "ablate", "bench", "data", "doctor", "embed", "export", "pretrain", "probe", "recipes", "report", "runs",
    "transfer",
)  # fmt: skip
"""What `barlowctl` is followed by in a command, and not in a sentence."""
_NAMED = re.compile(rf"(?<!\S)(-m )?barlowctl(?= ({'|'.join(COMMANDS)})\b)")
_began = False


def begin() -> None:
    """Say that the command line of this process is the one that is read: in Python nothing was typed."""
    global _began
    _began = True


def own_words() -> list[str]:
    """What Python is given to start this program, `-c CODE`, `-m MODULE` or a file; none: `barlowctl` does."""
    if not (_began and _has_networks()):
        return []
    words = [word for word in sys.orig_argv[1 : len(sys.orig_argv) - len(sys.argv) + 1] if word != "-u"]
    is_barlowctl = not words or Path(words[-1]).stem == "barlowctl" or Path(words[-1]).parent.name == "barlowctl"
    return [] if is_barlowctl else words


def as_started(text: str) -> str:
    """A command, or a text with one, as whoever started this process has to type it."""
    if not (words := own_words()):
        return text
    python = shell.line(sys.orig_argv[0], *words)
    of_torchrun = shell.line(*words) if len(words) == 1 else f"--no-python {python}"
    return _NAMED.sub(lambda named: of_torchrun if named[1] else python, text)


def _has_networks() -> bool:
    """Whether anybody's function is registered with timm."""
    timm = sys.modules.get("timm.models")
    return timm is not None and any(f"timm.models.{name}" not in sys.modules for name in timm.list_modules())
