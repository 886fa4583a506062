"""Reading files that are files: a pipe, a socket or a device is never opened."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import BinaryIO

from barlowctl.data.images.formats import HEAD


def read_regular(path: str | Path) -> bytes:
    """A regular file's bytes.

    Raises:
        OSError: it cannot be read, or is something else.
    """
    with open(path, "rb", opener=_open_regular) as file:
        return file.read()


def read_head(path: str | Path) -> bytes:
    """The first `formats.HEAD` bytes of a regular file; raises as `read_regular`."""
    with open(path, "rb", buffering=0, opener=_open_regular) as file:
        return file.read(HEAD) or b""


def open_regular(path: str | Path) -> BinaryIO:
    """A regular file, opened to read its bytes; raises as `read_regular`."""
    return open(path, "rb", opener=_open_regular)


def _open_regular(path: str, flags: int) -> int:
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise OSError("it is not a regular file (but a pipe, a socket, a device or a folder)")
    descriptor = os.open(path, flags | os.O_NONBLOCK)  # had it become a pipe since, this would not wait for a writer
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError("it is not a regular file any more")
    return descriptor
