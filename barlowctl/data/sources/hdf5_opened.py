"""HDF5 files that are open, a few at a time, and the images of an array that were unpacked together.

Files are opened where they are read from, so that thousands of them may be one data set. HDF5's library is not for
several threads at once: here one reads at a time.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from barlowctl.data.sources.damage import DAMAGED
from barlowctl.packages import required

BROKEN = (*DAMAGED, KeyError, TypeError, AttributeError)
"""What h5py raises where a file is damaged."""

_MOST_OPEN = 16  # files that stay open
_BLOCK = 256 << 20
"""Bytes of the images that are read together, at most: those of a chunk, which is decompressed as a whole."""
_BLOCKS = 2  # that stay in memory: threads that pack are at the end of one and at the beginning of the next


def why(error: BaseException) -> str:
    """What h5py says, in one line."""
    return " ".join(str(error).split()) or type(error).__name__


def h5py() -> Any:
    """The package. Raises UserError where it is not there."""
    return required("HDF5 files need the package h5py", "h5py", extra="hdf5")[0]


def rows_of_block(shape: tuple[int, ...], chunks: tuple[int, ...] | None, dtype: np.dtype) -> int:
    """How many images are read together: those that one chunk has parts of, as far as memory allows."""
    if chunks is None or not shape or chunks[0] == 1:
        return 1
    each = max(1, int(np.prod(shape[1:], dtype=np.int64)) * dtype.itemsize)
    return int(max(1, min(chunks[0], shape[0], _BLOCK // each)))


class Blocks(Protocol):
    """Images of which so many are read together."""

    @property
    def path(self) -> Path: ...
    @property
    def name(self) -> str: ...
    @property
    def together(self) -> int: ...

    def between(self, dataset: Any, first: int, end: int, /) -> np.ndarray:
        """Some of them, as they lie in the file."""
        ...


Identity = tuple[Path, int, int, int]
"""Of a file: one that was written anew under its name is another one."""
_files: OrderedDict[Path, tuple[Identity, Any]] = OrderedDict()
_blocks: OrderedDict[tuple[Identity, str, int], np.ndarray] = OrderedDict()
_lock = threading.RLock()


def _unlock() -> None:
    """In a process that was forked: a thread that reads is its parent's."""
    global _lock
    _lock = threading.RLock()


os.register_at_fork(after_in_child=_unlock)


def _open(path: Path) -> Any:
    return h5py().File(path, "r", locking="best-effort")


@contextmanager
def alone(path: Path) -> Iterator[Any]:
    """The file, opened anew and closed again, while no other thread reads from one."""
    with _lock, _open(path) as file:
        yield file


@contextmanager
def opened(path: Path) -> Iterator[tuple[Any, Identity]]:
    """The file, while no other thread reads from one."""
    with _lock:
        about = os.stat(path)
        identity = path, about.st_ino, about.st_mtime_ns, about.st_size
        before, file = _files.pop(path, (None, None))
        if before != identity:
            if file is not None:
                file.close()  # or HDF5 takes what it knows of the file before for the new one
            file = _open(path)
        _files[path] = identity, file
        while len(_files) > _MOST_OPEN:
            _files.popitem(last=False)[1][1].close()
        yield file, identity


def row_of(rows: Blocks, index: int) -> np.ndarray:
    """One image; those that are unpacked with it stay in memory for a while. Raises OSError where it is damaged."""
    try:
        if rows.together > 1:
            return _block(rows, index // rows.together)[index % rows.together]
        with opened(rows.path) as (file, _):
            return rows.between(file[rows.name], index, index + 1)[0]
    except BROKEN as error:
        raise OSError(f"damaged in the HDF5 file: {why(error)}") from error


def _block(rows: Blocks, number: int) -> np.ndarray:
    with opened(rows.path) as (file, identity):
        key = identity, rows.name, number
        block = _blocks.pop(key, None)
        if block is None:
            first = number * rows.together
            block = rows.between(file[rows.name], first, first + rows.together)
        _blocks[key] = block
        while len(_blocks) > _BLOCKS:
            _blocks.popitem(last=False)
        return block
