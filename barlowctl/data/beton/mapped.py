"""A packed file mapped into memory, and whether it is still the one that was mapped."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from barlowctl import shell
from barlowctl.errors import UserError


def map_file(path: Path) -> np.ndarray:
    """(file size,) uint8, read-only.

    Raises:
        UserError: it cannot be opened, or is empty.
    """
    try:
        if path.stat().st_size == 0:
            raise UserError(f"{path}: not a .beton file (0 bytes)", next=write_again(path))
        return np.asarray(np.memmap(path, dtype=np.uint8, mode="r"))
    except OSError as error:
        raise UserError(f"cannot open {path}: {error.strerror}", next=write_again(path)) from error


def check_whole(path: Path, mapped: np.ndarray) -> None:
    """Refuse a file that was cut short since it was mapped: the system ends a process that reads beyond its end.

    Copying another file to its place does that (`cp`, `rsync --inplace`); renaming one to it does not.

    Raises:
        UserError: it was.
        OSError: its file server has lost it.
    """
    mapping = getattr(mapped.base, "_mmap", None)  # its size() is the file's now
    if mapping is not None and mapping.size() < len(mapped):
        raise written_anew(path)


@dataclass
class Opening:
    """A file as it was when it was opened. identity: its device and inode; written: when, in nanoseconds."""

    identity: tuple[int, int]
    written: int

    @classmethod
    def of(cls, path: Path) -> Opening:
        """The file that is there now."""
        status = os.stat(path)
        return cls((status.st_dev, status.st_ino), status.st_mtime_ns)

    def since(self, path: Path) -> Opening | None:
        """The same file as it is now, where it was written to since; None: it was not, or another has its place."""
        try:
            now = Opening.of(path)
        except OSError:  # moved, or deleted: what is mapped stays
            return None
        return now if now.identity == self.identity and now.written != self.written else None


def written_anew(path: Path) -> UserError:
    """The error of a file that changed while it was read."""
    return UserError(
        f"{path} was cut short or written anew while it was read", next="put the file back as it was, then go on"
    )


def write_again(path: Path) -> str:
    """How to pack the images anew; where they lie only a person knows."""
    return f"pack its images again: `{shell.line('barlowctl', 'data', 'pack', 'FOLDER', path, '--overwrite')}`"
