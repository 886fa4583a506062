"""What a run notes of how it was made: the command, versions, the machine, the state of the checkout."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

from barlowctl import shell
from barlowctl.cores import usable_cores

RECORDED_PACKAGES = ("barlowctl", "torch", "torchvision", "timm", "numpy", "numba", "ffcv", "simplejpeg", "safetensors")


def environment() -> dict[str, Any]:
    """What a run was made with: versions, machine, the command and the folder it was typed in, git state."""
    return {
        "folder": os.getcwd(),
        "command": shell.line(_program(), *sys.argv[1:]),
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor_cores": usable_cores(),
        "packages": {name: version for name in RECORDED_PACKAGES if (version := _version(name))},
        "git": _git_state(),
    }


def _program() -> str:
    """What was started: a module that Python runs is named by its package."""
    started = Path(sys.argv[0])
    return started.parent.name if started.name == "__main__.py" else started.name


def _version(package: str) -> str | None:
    with suppress(metadata.PackageNotFoundError):
        return metadata.version(package)
    return None


def _git_state() -> dict[str, Any] | None:
    """Commit and cleanliness of the checkout this package runs from, if it runs from one."""
    here = Path(__file__).resolve().parent

    def git(*arguments: str) -> str:
        done = subprocess.run(
            ["git", "-C", str(here), *arguments], capture_output=True, text=True, timeout=10, check=True
        )
        return done.stdout.strip()

    try:
        tracked = git("ls-files", "--", str(Path(__file__).resolve()))
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain"))} if tracked else None
    except (OSError, subprocess.SubprocessError):
        return None
