"""Locks of files, which keep other processes out for as long as the one that holds them lives. A leaf."""

from __future__ import annotations

import errno
import math
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

with suppress(ImportError):  # on Windows, where `barlowctl doctor` works and little else
    import fcntl

_POLL_SECONDS = 0.02
_NO_LOCKS = (errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK, errno.EINVAL)  # of some mounts of Lustre and NFS


def take(file: IO[Any], *, shared: bool = False, patience: float = math.inf) -> bool:
    """Lock an open file until it is closed or the process ends; returns whether that was possible.

    On a file system without locks, and on Windows, it always is, and nobody is kept out.

    Args:
        shared: only to learn whether a process holds it: any number of processes may do so at once.
        patience: seconds to try for. Whoever only wants to learn has the lock for an instant: wait for that at least.
    """
    if os.name == "nt":
        return True
    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    deadline = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(file, kind if math.isinf(patience) else kind | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(_POLL_SECONDS)
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            return True


def release(file: IO[Any]) -> None:
    """Give a lock up, also for processes that were forked meanwhile: they have the file open."""
    with suppress(OSError, NameError):
        fcntl.flock(file, fcntl.LOCK_UN)


@contextmanager
def holding(path: Path, *, patience: float = math.inf) -> Iterator[IO[str] | None]:
    """Hold a lock file, which is made where there is none, for the block.

    Yields:
        The file, open for reading and appending; None where another process holds it for longer than `patience`
        seconds.
    """
    with open(path, "a+", encoding="utf-8") as file:
        yield file if take(file, patience=patience) else None


def is_held(path: Path) -> bool:
    """Whether a process holds a lock file now; no, where it cannot be read."""
    try:
        with open(path, encoding="utf-8") as file:
            return not take(file, shared=True, patience=0.0)
    except OSError:
        return False
