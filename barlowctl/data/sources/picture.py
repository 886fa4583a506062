"""One image as it was found, and an ordered set of them."""

from __future__ import annotations

import abc
import functools
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from barlowctl.amounts import counted
from barlowctl.data.tree.scan_report import ScanReport
from barlowctl.errors import UserError


@dataclass(frozen=True)
class Picture:
    """One image as it was found.

    name: what to call it in messages.
    label: class index, -1 for none.
    data: an encoded file's bytes, or pixels: uint8 (H, W) grey or (H, W, 3) RGB.
    """

    name: str
    label: int
    data: bytes | np.ndarray


class Source(abc.ABC):
    """An indexable, deterministically ordered set of pictures; reading one may raise OSError.

    kind: what was recognised, for people: `images in ...`.    path: where it was found.    split: which part of it.
    class_names: names of labels 0, 1, ..., empty for unlabelled images.
    choices: which of `ReadOptions` it takes.    files: that it reads, where it is made of archives.
    splits: those that its folders or its table say there are; see `other_splits`.
    in_chunks: how many images have parts in what is unpacked to read one; 1: each lies by itself.
    other_classes: whether folders that are no classes become some with `data pack --class-folders inner`.
    deeper_classes: whether images lie deeper than the class folders, and other folders may be the classes.
    in_memory: whether a program gave them: `path` is then no place, but what to call them.
    of_one_thread: whether the thread that opened it is to `begin` reading: code of somebody's may hold what is that
        thread's.
    opened: what `open_source` was given, which may have other splits too; None: nothing on the disk.
    read_with: the choices that somebody made of `ReadOptions`, by name.
    """

    kind: str
    path: Path
    split: str
    class_names: list[str]
    choices: tuple[str, ...] = ()
    files: Sequence[Path] = ()
    splits: Collection[str] = ()
    in_chunks: int = 1
    other_classes: bool = False
    deeper_classes: bool = False
    in_memory: bool = False
    of_one_thread: bool = False
    opened: Path | None = None
    read_with: Mapping[str, Any] = MappingProxyType({})

    @functools.cached_property
    def scan_report(self) -> ScanReport:
        """What lies there and is not read, by kind, and the choices that were made: readers add to it."""
        return ScanReport()

    @abc.abstractmethod
    def __len__(self) -> int: ...

    def counted(self) -> str:
        """How many of what, for people: `12,000 images in class folders`."""
        return counted(len(self), "image") + self.kind.removeprefix("images")

    @abc.abstractmethod
    def describe(self, index: int) -> tuple[str, int]:
        """(name, label) of one picture, without reading it."""

    @abc.abstractmethod
    def __getitem__(self, index: int) -> Picture:
        """Read one picture. Safe to call from several threads."""

    def begin(self, index: int) -> Callable[[], Picture]:
        """Begin to read one picture in the thread that opened the source; what is left to do, any thread may call."""
        return functools.partial(self.__getitem__, index)

    def column(self, name: str) -> list[object]:
        """What stands in a column of its table, for each picture.

        Raises:
            UserError: there is no such column.
        """
        raise UserError(
            f"--groups-column is '{name}', but {self.path} is read as {self.kind}",
            allowed="a column of Parquet files, of a list of paths, or of a table beside images in folders",
            next="without --groups-column",
        )

    def noted(self) -> dict[str, Any]:
        """Where it was found and how it was read, as plain values."""
        opened = None if self.opened is None else str(self.opened.absolute())
        about = {"source": str(self.path), "kind": self.kind, "split": self.split}
        return about | {"opened": opened, "read_with": dict(self.read_with)}

    def file(self, index: int) -> Path | None:
        """The file that is this picture and nothing else; None where there is none."""
        return None

    def extent(self, index: int) -> tuple[int, int]:
        """(bytes, checksum) of a stored picture that is no file, as far as known without reading it; -1: unknown."""
        return -1, -1


class Picked(Source):
    """Some pictures of a source, in the order of `rows` (positions in it)."""

    def __init__(self, source: Source, rows: np.ndarray) -> None:
        self.kind, self.path, self.split = source.kind, source.path, source.split
        self.class_names, self.choices, self.in_chunks = source.class_names, source.choices, source.in_chunks
        self.in_memory, self.of_one_thread = source.in_memory, source.of_one_thread
        self._source, self._rows = source, rows.tolist()

    @functools.cached_property
    def scan_report(self) -> ScanReport:
        """That of the whole source."""
        return self._source.scan_report

    def __len__(self) -> int:
        return len(self._rows)

    def describe(self, index: int) -> tuple[str, int]:
        return self._source.describe(self._rows[index])

    def __getitem__(self, index: int) -> Picture:
        return self._source[self._rows[index]]

    def begin(self, index: int) -> Callable[[], Picture]:
        return self._source.begin(self._rows[index])

    def file(self, index: int) -> Path | None:
        return self._source.file(self._rows[index])

    def extent(self, index: int) -> tuple[int, int]:
        return self._source.extent(self._rows[index])
