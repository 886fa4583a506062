"""An array in a file that was not read yet, whatever kind of file it is: its name, its shape, and how to read it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np

from barlowctl.data.names import written


class Rows(Protocol):
    """Images in an array: `np.ndarray`, or what reads them where they are asked for; see `hdf5_rows`."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> np.ndarray | bytes:
        """One image, or an encoded file's bytes. Raises OSError where its part of the file is damaged."""
        ...


@dataclass(frozen=True)
class StoredArray:
    """An array that was not read yet.

    name: without its ending.    shape, dtype: as its header says.    file: that it lies in.
    read: its values; raises UserError where it is damaged, or too large for the memory.
    rows: its images, where they need not be read all at once; None: `read` gives them.
    role: the words that say what it holds, where its name alone does not.
    encoded: it holds encoded files, one of each image, along its only axis.
    from_one: numbers of classes in it begin at 1, as MATLAB's positions do.
    inside: which file of a folder it lies in, where several are read as one data set.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype
    file: Path
    read: Callable[[], np.ndarray]
    rows: Callable[[], Rows] | None = None
    role: str = ""
    encoded: bool = False
    from_one: bool = False
    inside: str = ""

    def renamed(self, name: str) -> StoredArray:
        """The same under another name."""
        return replace(self, name=name)

    @property
    def words(self) -> str:
        """What says which split and which part of it this is."""
        return self.role or self.name

    @property
    def full_name(self) -> str:
        """Its name as messages and images have it."""
        return f"{self.inside}/{self.name}" if self.inside else self.name

    def images(self) -> Rows:
        """Its rows, to be read one after another."""
        return self.rows() if self.rows is not None else self.read()

    def __str__(self) -> str:
        """Its name, shape and type, for people."""
        kind = "encoded images" if self.encoded else self.dtype.name if self.dtype.itemsize else "text"
        return f"'{written(self.full_name)}' ({' x '.join(map(str, self.shape)) or 'one value'} {kind})"
