"""Where an error came up in somebody's own code, which the package calls: a network, a data set."""

from __future__ import annotations

import re
import sysconfig
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib import metadata
from pathlib import Path

import barlowctl
from barlowctl.errors import one_line

PACKAGE = Path(barlowctl.__file__).parent
SITES = {"site-packages", "dist-packages"}
"""Folders of installed packages, a virtual environment's and the system's."""
_NAME = re.compile(r"[\w.-]+")


def place(error: BaseException) -> str | None:
    """File and line of the innermost code that the package has called and that is somebody's; None: ours failed.

    Somebody's is what is neither Python's nor of a package that this one needs. What that code calls in turn, as
    torch's operations, counts as its.
    """
    called, own = False, None
    for frame, line in traceback.walk_tb(error.__traceback__):
        name = frame.f_code.co_filename
        path = Path(name).resolve()
        if path.is_relative_to(PACKAGE):
            called, own = True, None
        elif called and not name.startswith("<") and not _is_needed(path):
            own = f"{name}, line {line}"
    return own


def _is_needed(file: Path) -> bool:
    """Whether a file is Python's, or of an installed package that this one needs."""
    sites = [number for number, part in enumerate(file.parts) if part in SITES]
    if not sites:
        return any(file.is_relative_to(Path(sysconfig.get_path(kind)).resolve()) for kind in ("stdlib", "platstdlib"))
    needed = _needed()
    return not needed or file.parts[sites[-1] + 1].removesuffix(".py") in needed


@cache
def _needed() -> frozenset[str]:
    """What the packages that this one needs are imported by, those of its extras too; nothing: it is not installed."""
    distributions, remaining = set(), ["barlowctl"]
    while remaining:
        name = remaining.pop()
        try:
            requirements = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue
        distributions.add(_plain(name))
        own = name == "barlowctl"
        names = [_NAME.match(line) for line in requirements if own or "extra ==" not in line]
        remaining += [match[0] for match in names if match and _plain(match[0]) not in distributions]
    if not distributions:
        return frozenset()
    imported = metadata.packages_distributions().items()
    return frozenset(name for name, sources in imported if distributions & set(map(_plain, sources)))


def _plain(distribution: str) -> str:
    """The name of a distribution, as two spellings of it have it in common."""
    return re.sub(r"[-_.]+", "-", distribution).lower()


@contextmanager
def exits_are_errors() -> Iterator[None]:
    """Take sys.exit() in somebody's own code, which the package calls, for an error: the process is not theirs to end.

    Raises:
        RuntimeError: it was called there; the traceback leads to the line.
    """
    try:
        yield
    except SystemExit as end:
        if place(end) is None:
            raise
        raise RuntimeError(f"SystemExit({end.code!r}), which would end the whole process").with_traceback(
            end.__traceback__
        ) from None


def reason_of(error: BaseException) -> str:
    """An error in one line, with file and line where it came up in somebody's own code."""
    where = place(error)
    return one_line(error) if where is None else f"{one_line(error)}, in {where}"
