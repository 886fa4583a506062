"""What a file is by its content, whatever it is called: an archive, a table, an array, a list, or an image."""

from __future__ import annotations

import bz2
import gzip
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, Literal

from barlowctl.data.images import formats
from barlowctl.data.labels.text_lines import is_text
from barlowctl.data.sources.damage import DAMAGED
from barlowctl.data.tree.regular import open_regular

Kind = Literal[
    "tar", "compressed tar", "zip", "numpy archive", "numpy array", "parquet", "idx", "hdf5",
    "compressed hdf5", "packed", "image", "text", "other"
]  # fmt: skip

HEAD = 4096
IDX_START = b"\0\0\x08"
"""Of IDX files of unsigned bytes: two zeros and the type."""

_PACKED = b"\2\0\2\0"
"""Of `.beton` files: version 2 and two fields; the size of a page follows, a power of two."""

_COMPRESSED: tuple[tuple[bytes, Callable[..., Any]], ...] = (
    (b"\x1f\x8b", gzip.open),
    (b"BZh", bz2.open),
    (b"\xfd7zXZ\0", lzma.open),
)
BY_ENDING: dict[str, Kind] = {".tar": "tar", ".zip": "zip", ".parquet": "parquet", ".beton": "packed"}


def kind_of(path: Path) -> Kind:
    """What a regular file is. A name decides only where the content says nothing: then the file is damaged or empty.

    Raises:
        OSError: it cannot be read.
    """
    with open_regular(path) as file:
        head = file.read(HEAD)
        kind = _by_start(head)
        if kind is None:
            kind = _inside(file, head)
    if kind == "zip" and _holds_arrays_only(path):
        return "numpy archive"
    return kind or BY_ENDING.get(path.suffix.lower(), "other")


def _by_start(head: bytes) -> Kind | None:
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return "zip"
    if _is_tar(head):
        return "tar"
    if head.startswith(b"PAR1"):
        return "parquet"
    if head.startswith(IDX_START):
        return "idx"
    if head.startswith(_PACKED) and (pages := int.from_bytes(head[4:8], "little")) and not pages & (pages - 1):
        return "packed"
    image = formats.by_content(head[: formats.HEAD])
    if image is formats.HDF5:
        return "hdf5"
    if image is formats.NUMPY:
        return "numpy array"
    if image is not None and formats.readable(image):
        return "image"
    return "text" if image is None and is_text(head) else None


def _inside(file: BinaryIO, head: bytes) -> Kind | None:
    """What a compressed file holds: IDX files are read so, tar files are not."""
    for magic, reader in _COMPRESSED:
        if head.startswith(magic):
            file.seek(0)
            try:
                with reader(file) as stream:
                    start = stream.read(tarfile.BLOCKSIZE)
            except (*DAMAGED, zlib.error):
                return None
            if start.startswith(IDX_START):
                return "idx"
            if formats.by_content(start) is formats.HDF5 and str(file.name).endswith(".gz"):  # as gunzip takes it
                return "compressed hdf5"
            if formats.by_content(start) is formats.FITS and formats.readable(formats.FITS):
                return "image"
            return "compressed tar" if _is_tar(start) else None
    return None


def _is_tar(head: bytes) -> bool:
    """Whether a tar header begins a file: POSIX.1-1988's mark, or a right checksum for the tars before it."""
    if head[257:262] == b"ustar":
        return True
    if len(head) < tarfile.BLOCKSIZE or not head[0]:
        return False
    try:
        tarfile.TarInfo.frombuf(head[: tarfile.BLOCKSIZE], "utf-8", "surrogateescape")
    except tarfile.TarError:
        return False
    return True


def _holds_arrays_only(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except DAMAGED:
        return False
    return bool(names) and all(name.endswith(".npy") for name in names)
