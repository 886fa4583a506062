"""Arrays of MATLAB's files from version 7.3 on, which are HDF5 files, as MATLAB has them.

MATLAB counts the first axis fastest, so that an array lies in the file with its axes reversed: H x W x C x N as
(N, C, W, H). Text is numbers of characters, cells are references to arrays. What an array is stands in its attribute
MATLAB_class (MathWorks, "MAT-File Versions"; the same in SciPy's and hdf5storage's readers).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from barlowctl.data.names import written
from barlowctl.data.sources import hdf5_opened
from barlowctl.data.sources.array_names import LABEL_WORDS, is_an_image_of_bands
from barlowctl.data.sources.stored_array import StoredArray
from barlowctl.errors import UserError

CLASS, OBJECT = "MATLAB_class", "MATLAB_object_decode"
_COLOURS = (1, 3, 4)
_NUMBERS = frozenset(
    ("double", "single", "logical", *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)))
)


def is_matlabs(dataset: Any) -> bool:
    """Whether MATLAB, or what writes as it does, wrote an array."""
    return CLASS in dataset.attrs


def lengths_in(datasets: list[tuple[str, Any]]) -> frozenset[int]:
    """Of how many images a file's vectors may have the labels."""
    return frozenset(dataset.size for _, dataset in datasets if dataset.size > 1 and dataset.size == max(dataset.shape))


def stored(path: Path, name: str, dataset: Any, lengths: frozenset[int]) -> StoredArray:
    """An array as `StoredArray` has it: of several images the axis that counts them first.

    That is MATLAB's last (H x W x C x N, H x W x N), or its first (N x H x W x C) where labels are as many, or where
    colours are the last. Vectors have one axis.

    Args:
        lengths: see `lengths_in`.

    Raises:
        UserError: labels are an object (categorical, string), as which MATLAB hides their values.
    """
    kind = _kind(dataset)
    if kind == "cell":
        return _cells(path, name, dataset)
    shape = tuple(map(int, dataset.shape[::-1]))
    if kind == "char":
        rows = shape[:1] if len(shape) == 2 and shape[0] > 1 and shape[1] else ()
        return StoredArray(name, rows, np.dtype("U"), path, _reader(path, name, lambda values, _: _text(values)))
    if OBJECT in dataset.attrs and name.rpartition("/")[2].lower() in LABEL_WORDS:
        raise UserError(
            f"'{name}' in {path} is {kind or 'an object'} of MATLAB, whose values only MATLAB reads",
            allowed="labels as numbers, text, or cells of text; or a file without them",
            next=f"in MATLAB, then save again: {name.replace('/', '.')} = cellstr({name.replace('/', '.')})",
        )
    if kind not in _NUMBERS or "MATLAB_empty" in dataset.attrs:
        return StoredArray(name, (0,), dataset.dtype, path, _reader(path, name, lambda values, _: np.zeros(0)))
    dtype = np.dtype(bool) if kind == "logical" else dataset.dtype
    read = _reader(path, name, lambda values, _: _numbers(values, dtype))
    if len(shape) == 2 and 1 in shape:
        return StoredArray(name, (max(shape),), dtype, path, read, from_one=True)
    alone = StoredArray(name, shape, dtype, path, read, from_one=True)
    if len(shape) < 3 or (len(shape) == 3 and shape[2] in _COLOURS) or is_an_image_of_bands(alone):
        return alone
    is_last = _is_last(shape, lengths)
    own = (shape[-1], *shape[:-1]) if is_last else shape
    chunks = None if dataset.chunks is None else (dataset.chunks[0 if is_last else -1], *dataset.chunks[1:])
    together = hdf5_opened.rows_of_block(own, chunks, dtype)
    images = MatlabRows(path, name, own[0], together, is_last, dtype)
    return StoredArray(name, own, dtype, path, read, rows=lambda: images)


def _is_last(shape: tuple[int, ...], lengths: frozenset[int]) -> bool:
    if (shape[-1] in lengths) != (shape[0] in lengths):
        return shape[-1] in lengths
    return not (len(shape) == 4 and shape[-1] in _COLOURS and shape[2] not in _COLOURS)


def _kind(dataset: Any) -> str:
    kind = dataset.attrs.get(CLASS, b"")
    return kind.decode("ascii", "replace") if isinstance(kind, bytes) else str(kind)


def turned(values: np.ndarray, dataset: Any) -> np.ndarray:
    """The values of a single image with its axes as MATLAB has them."""
    return np.ascontiguousarray(values.T).astype(bool if _kind(dataset) == "logical" else values.dtype, copy=False)


def _numbers(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    turned = np.asarray(values).T.astype(dtype, copy=False)
    return turned.reshape(-1) if turned.ndim == 2 and 1 in turned.shape else turned


def _text(values: np.ndarray) -> np.ndarray:
    """Of a row of characters its text, of several rows each one's, without the blanks that fill them up."""
    lines = ["".join(map(chr, row)).rstrip() for row in np.atleast_2d(np.asarray(values).T)]
    return np.array(lines if len(lines) > 1 else "".join(lines))


def _cells(path: Path, name: str, dataset: Any) -> StoredArray:
    """Cells of text, as labels are; or of images, of which the first one says the shape."""
    count = int(dataset.size)
    cell = dataset[()].ravel()[0] if count else None
    first = dataset.file[cell] if cell else None
    if first is None or not hasattr(first, "dtype"):
        return StoredArray(name, (0,), np.dtype("O"), path, _reader(path, name, lambda *_: np.zeros(0)))
    if _kind(first) == "char":
        read = _reader(
            path, name, lambda values, file: np.array([str(_text(file[cell][()])) for cell in values.ravel()])
        )
        return StoredArray(name, (count,), np.dtype("U"), path, read)

    def whole(values: np.ndarray, file: Any) -> np.ndarray:
        return np.stack([_numbers(file[cell][()], dtype) for cell in values.ravel()])

    dtype = np.dtype(bool) if _kind(first) == "logical" else first.dtype
    if first.size == 1:
        read = _reader(path, name, lambda values, file: whole(values, file).reshape(-1))
        return StoredArray(name, (count,), dtype, path, read, from_one=True)
    shape = tuple(map(int, first.shape[::-1]))
    images = MatlabCells(path, name, count, dtype)
    return StoredArray(name, (count, *shape), dtype, path, _reader(path, name, whole), rows=lambda: images)


def _reader(path: Path, name: str, convert: Any) -> Any:
    def read() -> np.ndarray:
        try:
            with hdf5_opened.opened(path) as (file, _):
                return np.asarray(convert(file[name][()], file))
        except hdf5_opened.BROKEN as error:
            what = f"{path}: '{written(name)}' cannot be read: {hdf5_opened.why(error)}"
            raise UserError(what, next="copy it again") from error

    return read


@dataclass(frozen=True)
class MatlabRows:
    """The images in an array of MATLAB's.

    is_last: MATLAB's last axis counts them, which is the file's first. dtype: bool of what MATLAB calls logical.
    """

    path: Path
    name: str
    count: int
    together: int
    is_last: bool
    dtype: np.dtype

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> np.ndarray:
        values = hdf5_opened.row_of(self, index)
        return np.ascontiguousarray(values.T).astype(self.dtype, copy=False)

    def between(self, dataset: Any, first: int, end: int) -> np.ndarray:
        """Some images, as the file has them."""
        return np.asarray(dataset[first:end] if self.is_last else np.moveaxis(dataset[..., first:end], -1, 0))


@dataclass(frozen=True)
class MatlabCells:
    """The images in a cell array, each of its own size."""

    path: Path
    name: str
    count: int
    dtype: np.dtype

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> np.ndarray:
        try:
            with hdf5_opened.opened(self.path) as (file, _):
                cells = file[self.name]
                values = np.asarray(file[cells[np.unravel_index(index, cells.shape)]][()])
            return np.ascontiguousarray(values.T).astype(self.dtype, copy=False)
        except hdf5_opened.BROKEN as error:
            raise OSError(f"damaged in the MATLAB file: {hdf5_opened.why(error)}") from error
