"""What identifies a set of images without decoding one: names, sizes and labels, or a packed file's content hash.

A folder is looked over with one `stat` per file; the first bytes of a few images are read too, so that other pictures
of the same names and sizes are seen.
"""

from __future__ import annotations

import hashlib
import os
import stat
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from barlowctl.data.images.unreadable import Unreadable
from barlowctl.data.sources.picture import Source

SAMPLES = 32
"""Images whose first bytes are read."""
SAMPLE_BYTES = 1 << 18
_AT_ONCE, _THREADS = 4096, 16  # files per task; on a network's file system every `stat` waits


@dataclass(frozen=True)
class Fingerprint:
    """packed: of a packed file. images: their number. digest: SHA-256 in hexadecimal; a packed file's content hash."""

    packed: bool
    images: int
    digest: str

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {"kind": "packed file" if self.packed else "images as they lie", "images": self.images,
                "digest": self.digest}  # fmt: skip


@dataclass(frozen=True)
class Extents:
    """What is known of stored images without reading them; arrays have an entry per image.

    sizes, checksums: int64, -1 where unknown. identities: int64 (n, 2), device and inode of images that are files;
    -1 for others. samples: index -> CRC-32 of its first bytes, of a few images.
    """

    sizes: np.ndarray
    checksums: np.ndarray
    identities: np.ndarray
    samples: dict[int, int]


def look_over(source: Source) -> Extents:
    """The extents of a source: one `stat` per file. Files that are not there have none."""
    count = len(source)
    starts = range(0, count, _AT_ONCE)
    with ThreadPoolExecutor(_THREADS if count > _AT_ONCE else 1) as pool:
        parts = list(pool.map(lambda start: _rows(source, start, min(start + _AT_ONCE, count)), starts))
    table = np.concatenate(parts)
    chosen = np.unique(np.linspace(0, count - 1, min(count, SAMPLES)).round().astype(np.int64))
    samples = {int(index): zlib.crc32(first_bytes(source, int(index))) for index in chosen}
    return Extents(table[:, 0], table[:, 1], table[:, 2:], samples)


def digest(source: Source, extents: Extents) -> str:
    """SHA-256 over label, size, checksum and name of every image, in order, and the samples."""
    hashed = hashlib.sha256()
    for index in range(len(source)):
        name, label = source.describe(index)
        line = f"{label}\t{extents.sizes[index]}\t{extents.checksums[index]}\t{name}\n"
        hashed.update(line.encode("utf-8", "surrogateescape"))
    hashed.update(repr(sorted(extents.samples.items())).encode())
    return hashed.hexdigest()


def first_bytes(source: Source, index: int) -> bytes:
    """The first bytes of a stored image; none where it cannot be read."""
    try:
        file = source.file(index)
        if file is None:
            data = source[index].data
            return data[:SAMPLE_BYTES] if isinstance(data, bytes) else np.ascontiguousarray(data).tobytes()
        if not stat.S_ISREG(os.stat(file).st_mode):
            return b""
        with open(file, "rb") as stream:
            return stream.read(SAMPLE_BYTES)
    except (OSError, ValueError, Unreadable):
        return b""


def _rows(source: Source, start: int, end: int) -> np.ndarray:
    """int64 (end - start, 4): size, checksum, device, inode."""
    rows = np.full((end - start, 4), -1, dtype=np.int64)
    for row, index in enumerate(range(start, end)):
        file = source.file(index)
        if file is None:
            rows[row, :2] = source.extent(index)
            continue
        try:
            about = os.stat(file)
        except (OSError, ValueError):
            continue
        rows[row] = about.st_size, -1, about.st_dev & (1 << 62) - 1, about.st_ino & (1 << 62) - 1
    return rows
