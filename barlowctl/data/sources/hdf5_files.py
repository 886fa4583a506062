"""Arrays in HDF5 files, by h5py: which there are, and their rows, of which no more is read than is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from barlowctl.data.images import formats
from barlowctl.data.names import written
from barlowctl.data.sources import matlab_arrays
from barlowctl.data.sources.hdf5_opened import BROKEN, alone, h5py, opened, row_of, rows_of_block, why
from barlowctl.data.sources.stored_array import Rows, StoredArray
from barlowctl.data.tree.regular import open_regular
from barlowctl.errors import UserError
from barlowctl.packages import required


def in_file(path: Path) -> list[StoredArray]:
    """The arrays of an HDF5 file at any depth, by their paths in it ("train/images"), in the order of these.

    Raises:
        UserError: h5py is not there, the file is damaged, or it refers to files that are not there.
    """
    h5py()
    try:
        with open_regular(path):  # not of a pipe
            pass
        with alone(path) as file:
            datasets: list[tuple[str, Any]] = []
            file.visititems(lambda name, member: datasets.append((name, member)) if _is_array(name, member) else None)
            lengths = matlab_arrays.lengths_in(datasets)
            return [
                _stored(path, name, dataset, lengths) for name, dataset in sorted(datasets, key=lambda pair: pair[0])
            ]
    except BROKEN as error:
        raise UserError(f"{path} cannot be read as an HDF5 file: {why(error)}", next="copy it again") from error


def _is_array(name: str, member: Any) -> bool:
    if name.startswith("#"):  # what cells and objects of MATLAB's refer to
        return False
    return hasattr(member, "dtype") and hasattr(member, "chunks") and member.shape is not None


def _stored(path: Path, name: str, dataset: Any, lengths: frozenset[int]) -> StoredArray:
    _check_parts(path, name, dataset)
    _check_filters(path, name, dataset)
    if matlab_arrays.is_matlabs(dataset):
        return matlab_arrays.stored(path, name, dataset, lengths)
    encoded = _is_encoded(dataset)
    shape = () if encoded and _is_bytes(dataset) else tuple(map(int, dataset.shape))
    text = h5py().check_string_dtype(dataset.dtype) is not None
    dtype = np.dtype("U") if text else np.dtype(np.uint8) if encoded else dataset.dtype
    together = rows_of_block(shape, dataset.chunks, dtype)

    def read() -> np.ndarray:
        try:
            with alone(path) as file:
                stored = file[name]
                return np.asarray(stored.asstr(errors="backslashreplace")[()] if text else stored[()])
        except BROKEN as error:
            what = f"{path}: '{written(name)}' cannot be read: {why(error)}"
            raise UserError(what, next="copy it again") from error

    def rows() -> Rows:
        return Hdf5Rows(path, name, shape[0], together, encoded)

    return StoredArray(name, shape, dtype, path, read, rows=rows if shape else None, encoded=encoded)


def read_whole(path: Path, name: str) -> np.ndarray:
    """All values of an array, of numbers. Raises OSError where it is damaged."""
    try:
        with opened(path) as (file, _):
            values = np.asarray(file[name][()])
            return matlab_arrays.turned(values, file[name]) if matlab_arrays.is_matlabs(file[name]) else values
    except BROKEN as error:
        raise OSError(f"damaged in the HDF5 file: {why(error)}") from error


def _is_encoded(dataset: Any) -> bool:
    """Whether it holds the bytes of image files, as far as the first says it: one, or one in each element."""
    dtype, axes = dataset.dtype, len(dataset.shape)
    kind = h5py().check_vlen_dtype(dtype)
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
    h5z, listed = h5py().h5z, dataset.id.get_create_plist()
    for at in range(listed.get_nfilters()):
        code, _, _, filter_name = listed.get_filter(at)
        if not h5z.filter_avail(code):
            called = filter_name.decode("utf-8", "replace").partition(";")[0] or f"filter {code}"
            required(f"{path}: '{written(name)}' is compressed with {called}, which needs hdf5plugin", "hdf5plugin")


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
        if not self.encoded:
            return row_of(self, index)
        try:
            with opened(self.path) as (file, _):
                return bytes(file[self.name][index].tobytes())
        except BROKEN as error:
            raise OSError(f"damaged in the HDF5 file: {why(error)}") from error

    def between(self, dataset: Any, first: int, end: int) -> np.ndarray:
        """Some images."""
        return np.asarray(dataset[first:end])


@dataclass(frozen=True)
class OneImage:
    """An array that is a single image, or the bytes of an image file, as rows of which there is one."""

    path: Path
    name: str
    encoded: bool

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> np.ndarray | bytes:
        values = read_whole(self.path, self.name)
        return bytes(values.tobytes()) if self.encoded else values
