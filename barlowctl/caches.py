"""Folders of caches: where this user's are, and whether a folder can be written to. A leaf."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def cache_home() -> Path:
    """Where programs keep this user's caches: `$XDG_CACHE_HOME`, else `~/.cache`."""
    named = os.environ.get("XDG_CACHE_HOME")
    return Path(named).expanduser().absolute() if named else Path.home() / ".cache"


def is_writable(folder: Path) -> bool:
    """Whether a file can be made in the folder, or in the nearest existing one above it."""
    try:
        with tempfile.TemporaryFile(dir=nearest_existing(folder)):
            return True
    except OSError:
        return False


def nearest_existing(folder: Path) -> Path:
    """The folder itself, else the nearest existing one above it."""
    folder = folder.expanduser().absolute()
    return next(existing for existing in (folder, *folder.parents) if existing.exists())
