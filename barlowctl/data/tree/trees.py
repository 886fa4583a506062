"""Folders with images as a tree, whatever they lie in: on a disk, or as the paths in an archive."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

from barlowctl.data.tree.scan import Scan, class_folders, has_images
from barlowctl.data.tree.scan_report import ScanReport


class Tree(Protocol):
    """Folders with images at any depth. A place is the names from the top on, () for the top."""

    def folders(self, place: tuple[str, ...]) -> list[str]:
        """Names of the folders in a place that hold an image at any depth, sorted."""

    def loose(self, place: tuple[str, ...]) -> int:
        """How many images lie directly in a place."""

    def count(self, place: tuple[str, ...]) -> int:
        """How many images lie in a place at any depth."""


class FolderTree:
    """A folder on the disk as a `Tree`; folders are listed when they are asked for, and once."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._folders: dict[tuple[str, ...], list[str]] = {}

    def folders(self, place: tuple[str, ...]) -> list[str]:
        """See `Tree`."""
        if place not in self._folders:
            here = self._path.joinpath(*place)
            self._folders[place] = [name for name in class_folders(here) if has_images(here / name)]
        return self._folders[place]

    def loose(self, place: tuple[str, ...]) -> int:
        """See `Tree`."""
        return len(Scan(self._path.joinpath(*place), ScanReport()).images())

    def count(self, place: tuple[str, ...]) -> int:
        """See `Tree`."""
        return len(Scan(self._path.joinpath(*place), ScanReport()).walk())


class NameTree:
    """A `Tree` of the paths in an archive; `/` parts folders. Keeps folders, not images.

    Args:
        names: paths of images.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._loose: dict[tuple[str, ...], int] = {}
        for name in names:
            place = parts_of(name)[:-1]
            self._loose[place] = self._loose.get(place, 0) + 1

    def folders(self, place: tuple[str, ...]) -> list[str]:
        """See `Tree`."""
        depth = len(place)
        return sorted({folder[depth] for folder in self._loose if len(folder) > depth and folder[:depth] == place})

    def loose(self, place: tuple[str, ...]) -> int:
        """See `Tree`."""
        return self._loose.get(place, 0)

    def count(self, place: tuple[str, ...]) -> int:
        """See `Tree`."""
        return sum(count for folder, count in self._loose.items() if folder[: len(place)] == place)


def parts_of(name: str) -> tuple[str, ...]:
    """The parts of a path in an archive, without `.` and empty ones."""
    return tuple(part for part in name.split("/") if part not in ("", "."))
