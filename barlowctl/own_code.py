"""Where an error came up in somebody's own code, which the package calls: a network, a data set."""

from __future__ import annotations

import sysconfig
import traceback
from pathlib import Path

import barlowctl
from barlowctl.errors import one_line

PACKAGE = Path(barlowctl.__file__).parent
INSTALLED = {"stdlib", "platstdlib", "purelib", "platlib"}


def place(error: BaseException) -> str | None:
    """File and line of the innermost code that the package has called and that is nobody's package; None: ours failed.

    What that code calls in turn, as torch's operations, counts as its.
    """
    installed = [Path(path).resolve() for kind, path in sysconfig.get_paths().items() if kind in INSTALLED]
    called, own = False, None
    for frame, line in traceback.walk_tb(error.__traceback__):
        name = frame.f_code.co_filename
        path = Path(name).resolve()
        if path.is_relative_to(PACKAGE):
            called, own = True, None
        elif called and not name.startswith("<") and not any(path.is_relative_to(folder) for folder in installed):
            own = f"{name}, line {line}"
    return own


def reason_of(error: BaseException) -> str:
    """An error in one line, with file and line where it came up in somebody's own code."""
    where = place(error)
    return one_line(error) if where is None else f"{one_line(error)}, in {where}"
