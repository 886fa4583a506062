"""Arrays in HDF5 files, by h5py: which there are, and their rows, of which no more is read than is asked for.

Files are opened where they are read from, a few at a time, so that thousands of them may be one data set. HDF5's
library is not for several threads at once: here one reads at a time.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from barlowctl.data.images import formats
from barlowctl.data.names import written
from barlowctl.data.sources.damage import DAMAGED
from barlowctl.data.sources.stored_array import Rows, StoredArray
from barlowctl.data.tree.regular import open_regular
from barlowctl.errors import UserError
from barlowctl.packages import required

_BROKEN = (*DAMAGED, KeyError, TypeError, AttributeError)
"""What h5py raises where a file is damaged."""

_MOST_OPEN = 16  # files that stay open
_BLOCK = 256 << 20
"""Bytes of the images that are read together, at most: those of a chunk, which is decompressed as a whole."""
_BLOCKS = 2  # that stay in memory: threads that pack are at the end of one and at the beginning of the next


def in_file(path: Path) -> list[StoredArray]:
    """The arrays of an HDF5 file at any depth, by their paths in it ("train/images"), in the order of these.

    Raises:
        UserError: h5py is not there, the file is damaged, or it refers to files that are not there.
    """
    _h5py()
    try:
        with open_regular(path):  # not of a pipe
            pass
        with _lock, _open(path) as file:
            datasets: list[tuple[str, Any]] = []
            file.visititems(lambda name, member: datasets.append((name, member)) if _is_array(member) else None)
            return [_stored(path, name, dataset) for name, dataset in sorted(datasets, key=lambda pair: pair[0])]
    except _BROKEN as error:
        raise UserError(f"{path} cannot be read as an HDF5 file: {_why(error)}", next="copy it again") from error


def _why(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _h5py() -> Any:
    return required("HDF5 files need the package h5py", "h5py", extra="hdf5")[0]


def _is_array(member: Any) -> bool:
    return hasattr(member, "dtype") and hasattr(member, "chunks") and member.shape is not None


def _stored(path: Path, name: str, dataset: Any) -> StoredArray:
    _check_parts(path, name, dataset)
    _check_filters(path, name, dataset)
    encoded = _is_encoded(dataset)
    shape = () if encoded and _is_bytes(dataset) else tuple(map(int, dataset.shape))
    text = _h5py().check_string_dtype(dataset.dtype) is not None
    dtype = np.dtype("U") if text else np.dtype(np.uint8) if encoded else dataset.dtype
    together = _rows_of_block(shape, dataset.chunks, dtype)

    def read() -> np.ndarray:
        try:
            with _lock, _open(path) as file:
                stored = file[name]
                return np.asarray(stored.asstr(errors="backslashreplace")[()] if text else stored[()])
        except _BROKEN as error:
            what = f"{path}: '{written(name)}' cannot be read: {_why(error)}"
            raise UserError(what, next="copy it again") from error

    def rows() -> Rows:
        return Hdf5Rows(path, name, shape[0], together, encoded)

    return StoredArray(name, shape, dtype, path, read, rows=rows if shape else None, encoded=encoded)


def read_whole(path: Path, name: str) -> np.ndarray:
    """All values of an array. Raises OSError where it is damaged."""
    try:
        with _opened(path) as (file, _):
            return np.asarray(file[name][()])
    except _BROKEN as error:
        raise OSError(f"damaged in the HDF5 file: {_why(error)}") from error


def _is_encoded(dataset: Any) -> bool:
    """Whether it holds the bytes of image files, as far as the first says it: one, or one in each element."""
    dtype, axes = dataset.dtype, len(dataset.shape)
    kind = _h5py().check_vlen_dtype(dtype)
    of_each = (kind is not None and kind in (np.uint8, np.int8)) or (dtype.kind == "V" and not dtype.names)
    if axes > 1 or not dataset.size or not (of_each or _is_bytes(dataset)):
        return False
    first = dataset[()] if not axes else dataset[0] if of_each else dataset[: formats.HEAD]
    content = formats.by_content(first.tobytes()[: formats.HEAD])
    return content is not None and formats.readable(content)


def _is_bytes(dataset: Any) -> bool:
    """Whether an array may be the bytes of one file."""
    return len(dataset.shape) == 1 and dataset.dtype in (np.uint8, np.int8)


def _check_parts(path: Path, name: str, dataset: Any) -> None:
    """Refuse an array whose values lie in files that are not there: HDF5 would give zeros for them."""
    elsewhere = [source.file_name for source in dataset.virtual_sources()] if dataset.is_virtual else []
    elsewhere += [file for file, _, _ in dataset.external or ()]
    for other in elsewhere:
        if other != "." and not (path.parent / other).is_file():
            raise UserError(
                f"{path}: values of '{written(name)}' lie in {written(other)}, which is not there",
                next="copy the other file beside it",
            )


def _check_filters(path: Path, name: str, dataset: Any) -> None:
    """Refuse a compression that needs a package which is not there."""
    h5z, listed = _h5py().h5z, dataset.id.get_create_plist()
    for at in range(listed.get_nfilters()):
        code, _, _, filter_name = listed.get_filter(at)
        if not h5z.filter_avail(code):
            called = filter_name.decode("utf-8", "replace").partition(";")[0] or f"filter {code}"
            required(f"{path}: '{written(name)}' is compressed with {called}, which needs hdf5plugin", "hdf5plugin")


def _rows_of_block(shape: tuple[int, ...], chunks: tuple[int, ...] | None, dtype: np.dtype) -> int:
    """How many images are read together: those that one chunk has parts of, as far as memory allows."""
    if chunks is None or not shape or chunks[0] == 1:
        return 1
    each = max(1, int(np.prod(shape[1:], dtype=np.int64)) * dtype.itemsize)
    return int(max(1, min(chunks[0], shape[0], _BLOCK // each)))


@dataclass(frozen=True)
class Hdf5Rows:
    """The images along the first axis of an array in an HDF5 file.

    together: so many are read at once, since chunks hold parts of so many.
    encoded: each is the bytes of an image file.
    """

    path: Path
    name: str
    count: int
    together: int
    encoded: bool

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> np.ndarray | bytes:
        try:
            if self.encoded or self.together == 1:
                with _opened(self.path) as (file, _):
                    values = file[self.name][index]
                return bytes(values.tobytes()) if self.encoded else np.asarray(values)
            return _block(self, index // self.together)[index % self.together]
        except _BROKEN as error:
            raise OSError(f"damaged in the HDF5 file: {_why(error)}") from error


_Identity = tuple[Path, int, int, int]  # a file that was written anew under its name is another one
_files: OrderedDict[Path, tuple[_Identity, Any]] = OrderedDict()
_blocks: OrderedDict[tuple[_Identity, str, int], np.ndarray] = OrderedDict()
_lock = threading.RLock()


def _unlock() -> None:
    """In a process that was forked: a thread that reads is its parent's."""
    global _lock
    _lock = threading.RLock()


os.register_at_fork(after_in_child=_unlock)


def _open(path: Path) -> Any:
    return _h5py().File(path, "r", locking="best-effort")


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, _Identity]]:
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


def _block(rows: Hdf5Rows, number: int) -> np.ndarray:
    with _opened(rows.path) as (file, identity):
        key = identity, rows.name, number
        block = _blocks.pop(key, None)
        if block is None:
            first = number * rows.together
            block = file[rows.name][first : first + rows.together]
        _blocks[key] = block
        while len(_blocks) > _BLOCKS:
            _blocks.popitem(last=False)
        return block
