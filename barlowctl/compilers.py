"""How a C++ compiler is installed on this system. A leaf: standard library only."""

from __future__ import annotations

import platform
import shutil

INSTALLATIONS = {
    "apt-get": "apt-get install g++",
    "dnf": "dnf install gcc-c++",
    "zypper": "zypper install gcc-c++",
    "pacman": "pacman -S gcc",
    "apk": "apk add g++",
    "conda": "conda install --channel conda-forge cxx-compiler",
}
"""What installs one, by the package manager that does it; of those on the search path the first one is advised."""


def installation() -> str:
    """The command that does it, for `barlowctl doctor` and a run that misses one; words where none is known."""
    if platform.system() == "Darwin":
        return "xcode-select --install"
    there = (command for manager, command in INSTALLATIONS.items() if shutil.which(manager))
    return next(there, "install g++ with the package manager of this system")
