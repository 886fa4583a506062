"""A packed file mapped into memory, and whether it is still the one that was mapped."""

from __future__ import annotations

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
        UserError: it was. OSError: its file server has lost it.
    """
    mapping = getattr(mapped.base, "_mmap", None)  # its size() is the file's now
    if mapping is not None and mapping.size() < len(mapped):
        message = f"{path} was cut short or written anew while it was read"
        raise UserError(message, next="put the file back as it was, then go on")


def write_again(path: Path) -> str:
    """How to pack the images anew; where they lie only a person knows."""
    return f"pack its images again: `{shell.line('barlowctl', 'data', 'pack', 'FOLDER', path, '--overwrite')}`"
