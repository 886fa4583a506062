"""How a C++ compiler is installed on this system. A leaf: standard library only."""

from __future__ import annotations

import platform


def installation() -> str:
    """The command that does it, as `barlowctl doctor` and a run that misses one advise it."""
    return "xcode-select --install" if platform.system() == "Darwin" else "apt-get install g++"
