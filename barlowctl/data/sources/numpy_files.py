"""Arrays in files: those of an archive of NumPy's (`.npz`), and `.npy` files. Nothing is unpickled.

An array that lies in its file as it is in memory is mapped, and read where it is asked for; one that is compressed is
read whole.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy

from barlowctl import memory, shell
from barlowctl.data.names import packed_as
from barlowctl.data.sources.damage import DAMAGED
from barlowctl.data.sources.stored_array import StoredArray
from barlowctl.data.tree.regular import open_regular
from barlowctl.errors import UserError

_ENDING = ".npy"
_LOCAL_HEADER = 30  # bytes of a member's own header in a zip file, before its name (APPNOTE.TXT, 4.3.7)
_SHARE = 0.8  # of the memory that is free, which an array may take


def in_archive(path: Path) -> list[StoredArray]:
    """The arrays of an `.npz`, in its order.

    Raises:
        UserError: damaged, or one of them holds Python objects.
    """
    try:
        with open_regular(path) as file, zipfile.ZipFile(file) as archive:
            return [
                _member(path, archive, member) for member in archive.infolist() if member.filename.endswith(_ENDING)
            ]
    except DAMAGED as error:
        raise _damaged(path, error) from error


def in_file(path: Path) -> StoredArray:
    """The array of a `.npy` file; raises as `in_archive`."""
    try:
        with open_regular(path) as file:
            shape, fortran, dtype = _header(file)
            offset = file.tell()
    except DAMAGED as error:
        raise _damaged(path, error) from error
    return StoredArray(path.stem, shape, dtype, path, lambda: _mapped(path, offset, shape, fortran, dtype))


def _member(path: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> StoredArray:
    name = member.filename.removesuffix(_ENDING)
    with archive.open(member) as content:
        shape, fortran, dtype = _header(content)
        inside = content.tell()
    if member.compress_type == zipfile.ZIP_STORED:
        archive.fp.seek(member.header_offset)  # type: ignore[union-attr]
        own = archive.fp.read(_LOCAL_HEADER)  # type: ignore[union-attr]
        lengths = int.from_bytes(own[26:28], "little") + int.from_bytes(own[28:30], "little")
        offset = member.header_offset + _LOCAL_HEADER + lengths + inside

        def read() -> np.ndarray:
            _check_sum(path, member.filename)
            return _mapped(path, offset, shape, fortran, dtype)

        return StoredArray(name, shape, dtype, path, read)
    return StoredArray(name, shape, dtype, path, lambda: _unpacked(path, member.filename, member.file_size))


def _header(content: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, whether columns come first, and type; raises ValueError."""
    version = npy.read_magic(content)
    if version not in ((1, 0), (2, 0)):
        raise ValueError("it is of records with names")  # what version 3.0 is for
    reader: Any = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    try:
        shape, fortran, dtype = reader(content)
    except DAMAGED:
        raise
    except Exception as error:  # the header is text, which NumPy has Python's own parser read
        raise ValueError("its header is damaged") from error
    return shape, fortran, dtype


def _mapped(path: Path, offset: int, shape: tuple[int, ...], fortran: bool, dtype: np.dtype) -> np.ndarray:
    if not all(shape):
        return np.empty(shape, dtype)
    try:
        return np.memmap(path, dtype, "r", offset, shape, "F" if fortran else "C")
    except DAMAGED as error:
        raise UserError(f"{path} is cut short", next="copy it again") from error


def _check_sum(path: Path, name: str) -> None:
    """Refuse a member whose bytes are not those that its checksum is of."""
    try:
        with zipfile.ZipFile(path) as archive, archive.open(name) as content:
            while content.read(1 << 20):
                pass
    except DAMAGED as error:
        raise _damaged(path, error) from error


def _unpacked(path: Path, name: str, size: int) -> np.ndarray:
    free = memory.available()
    if free is not None and size > _SHARE * free:
        folder = path.with_suffix("")
        unpacked = shell.line("python", "-m", "zipfile", "-e", path, folder)
        packed = shell.line("barlowctl", "data", "pack", folder, packed_as(folder))
        raise UserError(
            f"{path}: {name} is compressed and takes {memory.size(size)} of memory; {memory.size(free)} are free",
            next=f"{unpacked} && {packed}",
        )
    try:
        with zipfile.ZipFile(path) as archive, archive.open(name) as content:
            return npy.read_array(content, allow_pickle=False)
    except DAMAGED as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: BaseException) -> UserError:
    return UserError(f"{path} cannot be read: {error}", next="copy it again")
