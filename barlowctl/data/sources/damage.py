"""What the standard library's readers of archives raise when one is damaged."""

from __future__ import annotations

import lzma
import struct
import tarfile
import zipfile
import zlib

DAMAGED = (
    tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error,
    EOFError, OSError, RuntimeError, ValueError, OverflowError, MemoryError,
)  # fmt: skip
