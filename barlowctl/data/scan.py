"""Which files a folder holds: what is an image, what is passed over, in which order."""

from __future__ import annotations

import os
from pathlib import Path

from barlowctl.data.picture import is_image


def has_images(path: Path) -> bool:
    """Whether a folder, or one of its sub-folders, directly holds an image file."""
    if not path.is_dir():
        return False
    places = [path, *(path / name for name in subfolders(path))]
    return any(holds_images(place) for place in places)


def subfolders(path: Path) -> list[str]:
    """Names of the visible folders in a folder, sorted."""
    return sorted(entry.name for entry in os.scandir(path) if entry.is_dir() and not _hidden(entry.name))


def walk(top: Path, prefix: str) -> list[str]:
    """Image files below `top`, sorted, as paths that begin with `prefix`."""
    found, seen = [], set()
    for folder, folders, names in os.walk(top, followlinks=True):
        identity = os.stat(folder)
        if (identity.st_dev, identity.st_ino) in seen:  # a link that leads back up
            folders.clear()
            continue
        seen.add((identity.st_dev, identity.st_ino))
        folders[:] = sorted(name for name in folders if not _hidden(name))
        inside = os.path.relpath(folder, top)
        start = os.path.normpath(os.path.join(prefix, inside))
        found += [os.path.normpath(os.path.join(start, name)) for name in names if _is_image(name)]
    return sorted(found, key=lambda name: name.split(os.sep))


def holds_images(folder: Path) -> bool:
    """Whether a folder directly holds an image file."""
    return any(_is_image(name) for name in os.listdir(folder))


def _is_image(name: str) -> bool:
    return is_image(name) and not _hidden(name)


def _hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"
