"""How this process was started, for what starts it again: by `barlowctl`, with what `--import` names, or by a program.

Such a program registers parts of its own and calls the command line, in one process: what is typed next, and what is
started beside it, begins as it did. A leaf: standard library only.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path

from barlowctl import shell

COMMANDS = (
    "ablate", "bench", "data", "doctor", "embed", "export", "pretrain", "probe", "recipes", "report", "runs",
    "transfer",
)  # fmt: skip
"""What `barlowctl` is followed by in a command, and not in a sentence."""
IMPORT = "--import"
"""The option in front of a command that names what is imported first."""
_NAMED = re.compile(rf"(?<!\S)(-m )?barlowctl(?= ({'|'.join(COMMANDS)}|{IMPORT})\b)")
_began = False
_imported: tuple[str, ...] = ()


def begin() -> None:
    """Say that the command line of this process is the one that is read: in Python nothing was typed."""
    global _began
    _began = True


def split(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """The words after `barlowctl` -> what `--import` names in front of the command, and the words from there on."""
    names, rest = list[str](), list(arguments)
    while rest:
        flag, equals, value = rest[0].partition("=")
        value = value if equals else rest[1] if len(rest) > 1 else ""
        if flag != IMPORT or not value.strip() or (not equals and value.startswith("-")):
            break
        names.append(value)
        rest = rest[1 if equals else 2 :]
    return names, rest


def begin_with(names: Sequence[str]) -> None:
    """Say what the command of this process imports first."""
    global _imported
    _imported = tuple(names)


def import_words(*more: str, absolute: bool = False) -> list[str]:
    """The words between `barlowctl` and its command: what was imported first, and what is to be beside that.

    Args:
        absolute: files by their whole paths, for what is started in another folder.
    """
    names = dict.fromkeys((*_imported, *more))
    return [
        word for name in names for word in (IMPORT, str(Path(name).absolute()) if absolute and is_file(name) else name)
    ]


def is_file(name: str) -> bool:
    """Whether what `--import` names is a file, and not a module."""
    return name.endswith(".py") or "/" in name


def words(*, absolute: bool = False) -> list[str]:
    """What Python is given to start this program again, up to the command. absolute: see `import_words`."""
    return [*(own_words() or ("-m", "barlowctl")), *import_words(absolute=absolute)]


def own_words() -> list[str]:
    """What Python is given to start this program, `-c CODE`, `-m MODULE` or a file; none: `barlowctl` does."""
    if not (_began and (_has_networks() or _has_methods())):
        return []
    words = [word for word in sys.orig_argv[1 : len(sys.orig_argv) - len(sys.argv) + 1] if word != "-u"]
    is_barlowctl = not words or Path(words[-1]).stem == "barlowctl" or Path(words[-1]).parent.name == "barlowctl"
    return [] if is_barlowctl else words


def as_started(text: str) -> str:
    """A command, or a text with one, as whoever started this process has to type it."""
    own, imported = own_words(), import_words()
    if not (own or imported):
        return text
    python = shell.line(sys.orig_argv[0], *own) if own else "barlowctl"
    of_torchrun = shell.line(*own) if len(own) == 1 else f"--no-python {python}" if own else "-m barlowctl"

    def begun(named: re.Match[str]) -> str:
        first = of_torchrun if named[1] else python
        return f"{first} {shell.line(*imported)}" if imported and named[2] != IMPORT else first

    return _NAMED.sub(begun, text)


def _has_networks() -> bool:
    """Whether anybody's function is registered with timm."""
    timm = sys.modules.get("timm.models")
    return timm is not None and any(f"timm.models.{name}" not in sys.modules for name in timm.list_modules())


def _has_methods() -> bool:
    """Whether anybody's method or optimizer is registered."""
    objectives, optimizers = (sys.modules.get(f"barlowctl.recipe.{name}") for name in ("objectives", "optimizers"))
    own_methods = objectives is not None and len(objectives.METHODS) > len(objectives.OURS)
    return own_methods or (optimizers is not None and bool(optimizers.REGISTERED))
