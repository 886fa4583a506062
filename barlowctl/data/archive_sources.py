"""Images inside archives, and lists of paths: tar shards (WebDataset), zip files, a text file.

Each `open_*` looks a file (or a folder of shards) over once and keeps where every image lies, 120 bytes an image of tar
shards and 630 of a zip file (most of them zipfile's own); images themselves are read when they are asked for.
"""

from __future__ import annotations

import lzma
import os
import posixpath
import re
import struct
import tarfile
import zipfile
import zlib
from array import array
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from barlowctl.data.picture import Picture, Source, is_image
from barlowctl.errors import UserError

SPLIT_WORDS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "test"),
    "test": ("test", "val", "valid", "validation"),
    "unlabelled": ("unlabelled", "unlabeled", "unsupervised"),
}
"""How splits are called in the names of shards, best first."""

MAX_CLASSES = 1_000_000
"""Of labels that are numbers: every class from 0 to the largest gets a name in memory and in the packed file."""


# What the standard library's readers raise for damaged archives.
_DAMAGED = (
    tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error,
    EOFError, OSError, RuntimeError, ValueError, OverflowError, MemoryError,
)  # fmt: skip


def of_split(files: Sequence[Path], split: str) -> list[Path]:
    """The shards of a split, by the words in their names; all of them where no name says a split.

    Raises:
        UserError: their names say splits, but not this one.
    """
    words = {file: set(re.split(r"[^a-z]+", file.name.lower())) for file in files}
    every = {word for group in SPLIT_WORDS.values() for word in group}
    if not any(found & every for found in words.values()):
        return list(files)
    for word in SPLIT_WORDS[split]:
        if chosen := [file for file in files if word in words[file]]:
            return chosen
    raise UserError(
        f"{files[0].parent} has no {split} split",
        allowed=f"its files: {files[0].name}, ...",
        next="choose one with --split, or give the files of one split",
    )


def numbered_classes(largest: int, where: str) -> list[str]:
    """Names of the classes 0 to `largest`, which are their numbers.

    Raises:
        UserError: more than `MAX_CLASSES`; `where` says which label it was.
    """
    if largest >= MAX_CLASSES:
        raise UserError(
            f"{where} has the class number {largest}",
            allowed=f"0 to {MAX_CLASSES - 1:,}",
            next="number the classes 0, 1, 2, ...",
        )
    return [str(i) for i in range(largest + 1)]


# ---- tar shards (github.com/webdataset/webdataset: one sample is the files of one name) ------------------


class TarShards(Source):
    """Images in uncompressed tar files; a `.cls` file beside an image, of the same name, holds its label.

    Raises:
        UserError: compressed, damaged, or without images.
    """

    def __init__(self, files: Sequence[Path], split: str) -> None:
        self.kind, self.path, self.split, self.class_names = "images in tar shards", files[0].parent, split, []
        if len(files) == 1:
            self.path = files[0]
        self._files = list(files)
        self._shards, self._begins, self._sizes, self._labels = array("I"), array("Q"), array("Q"), array("q")
        self._names: list[str] = []
        for number, file in enumerate(files):
            self._look_over(number, file)
        if not self._names:
            raise UserError(f"no images in {self.path}", next="give tar files that hold image files")
        largest = max(self._labels)
        name, _ = self.describe(self._labels.index(largest))
        self.class_names = numbered_classes(largest, f"{self.path}: the label of {name}")

    def _look_over(self, number: int, file: Path) -> None:
        first, labels = len(self._names), {}
        try:
            with tarfile.open(file, "r:") as shard:
                for member in shard:
                    shard.members = []  # type: ignore[attr-defined]  # it would keep every header, a kilobyte each
                    if not member.isreg() or os.path.basename(member.name).startswith("."):
                        continue
                    if is_image(member.name):
                        self._names.append(member.name)
                        self._shards.append(number)
                        self._begins.append(member.offset_data)
                        self._sizes.append(member.size)
                        self._labels.append(-1)
                    elif member.name.endswith(".cls"):
                        content = shard.extractfile(member)
                        labels[_key(member.name)] = _label(content.read(32) if content else b"", file, member.name)
        except _DAMAGED as error:
            raise UserError(
                f"{file} is not a readable tar file: {error}",
                next="copy it again",
            ) from error
        for index in range(first, len(self._names)) if labels else ():
            self._labels[index] = labels.get(_key(self._names[index]), -1)

    def __len__(self) -> int:
        return len(self._names)

    def describe(self, index: int) -> tuple[str, int]:
        return f"{self._files[self._shards[index]].name}/{self._names[index]}", self._labels[index]

    def __getitem__(self, index: int) -> Picture:
        with open(self._files[self._shards[index]], "rb", buffering=0) as shard:
            data = os.pread(shard.fileno(), self._sizes[index], self._begins[index])
        return Picture(*self.describe(index), data)


def _key(name: str) -> str:
    """WebDataset's: the path up to the first dot of its last part."""
    folder, _, base = name.rpartition("/")
    return f"{folder}/{base.split('.')[0]}"


def _label(content: bytes, file: Path, name: str) -> int:
    try:
        label = int(content)
    except ValueError:
        raise UserError(f"{file}: {name} holds {content!r}, not a class number") from None
    if not 0 <= label < 1 << 31:
        raise UserError(f"{file}: {name} holds the class number {label}", allowed="0 or more")
    return label


# ---- zip -------------------------------------------------------------------------------------------------


class ZipFolder(Source):
    """Images in a zip file, its folders read as an image folder's: class folders give labels, a pile has none.

    Raises:
        UserError: damaged, without images, or without the split that its train/ and val/ folders have.
    """

    def __init__(self, path: Path, split: str) -> None:
        self.path, self.split = path, split
        try:
            self._zip = zipfile.ZipFile(path)
            names = sorted(name for name in self._zip.namelist() if is_image(name) and "__MACOSX" not in name)
        except _DAMAGED as error:
            raise UserError(f"{path} is not a readable zip file: {error}", next="copy it again") from error
        if not names:
            raise UserError(f"no images in {path}", next="give a zip file that holds image files")
        prefix = _common_folder(names)
        tops = {name[len(prefix) :].partition("/")[0] for name in names}
        of_splits = {word for words in SPLIT_WORDS.values() for word in words}
        if tops <= of_splits:
            folder = next((word for word in SPLIT_WORDS[split] if word in tops), None)
            if folder is None:
                raise UserError(f"{path} has no {split} split", allowed=f"its folders: {', '.join(sorted(tops))}")
            train = next((word for word in SPLIT_WORDS["train"] if word in tops), folder)
            classes = _folders(names, f"{prefix}{train}/")
            prefix = f"{prefix}{folder}/"
            names = [name for name in names if name.startswith(prefix)]
        else:
            classes = _folders(names, prefix)
        pile = any("/" not in name[len(prefix) :] for name in names)
        self.class_names = [] if pile else classes
        self.kind = "a zip file of images" + ("" if pile else " in class folders")
        labels = {name: label for label, name in enumerate(self.class_names)}
        self._files = []
        for name in names:
            folder = name[len(prefix) :].partition("/")[0]
            if not pile and folder not in labels:
                raise UserError(f"{path} has the class folder '{folder}', which the training set lacks")
            self._files.append((name, -1 if pile else labels[folder]))

    def __len__(self) -> int:
        return len(self._files)

    def describe(self, index: int) -> tuple[str, int]:
        return self._files[index]

    def __getitem__(self, index: int) -> Picture:
        name, label = self._files[index]
        try:
            return Picture(name, label, self._zip.read(name))  # a ZipFile locks its file between threads
        except _DAMAGED as error:
            raise OSError(f"damaged in the zip file: {error}") from error


def _common_folder(names: Sequence[str]) -> str:
    """The folder that all images lie in or below, with its slash; "" for the top."""
    common = posixpath.commonpath([name.rpartition("/")[0] for name in names])
    return f"{common}/" if common else ""


def _folders(names: Sequence[str], prefix: str) -> list[str]:
    below = {name[len(prefix) :] for name in names if name.startswith(prefix)}
    return sorted({name.partition("/")[0] for name in below if "/" in name})


# ---- a text file of paths --------------------------------------------------------------------------------


class PathList(Source):
    """A text file with a path a line, from the file's own folder on; a label may follow, a number or a word.

    A label stands after a tab, or after the last space when every line ends in a whole number.

    Raises:
        UserError: no paths, or labels on some lines only.
    """

    def __init__(self, path: Path, split: str) -> None:
        self.kind, self.path, self.split = "a list of paths", path, split
        try:
            lines = [line for line in path.read_text(encoding="utf-8", errors="surrogateescape").splitlines() if line]
        except OSError as error:
            raise UserError(f"{path} cannot be read: {error.strerror}") from error
        if not lines:
            raise UserError(f"{path} lists no images", next="write one path a line")
        parts = [line.split("\t") for line in lines]
        if not any(len(part) > 1 for part in parts) and all(re.search(r"\S\s+\d+\s*$", line) for line in lines):
            parts = [line.rsplit(maxsplit=1) for line in lines]
        wrong = next((n for n, part in enumerate(parts) if len(part) != len(parts[0]) or len(part) > 2), None)
        if wrong is not None:
            raise UserError(
                f"{path}, line {wrong + 1}: {len(parts[wrong])} columns where the first line has {len(parts[0])}",
                allowed="a path, or a path and a label with a tab between, on every line alike",
            )
        self._names = [part[0].strip() for part in parts]
        self.class_names, self._labels = _as_labels([part[1].strip() for part in parts if len(part) > 1], path)
        self._labels = self._labels if self.class_names else np.full(len(parts), -1)

    def __len__(self) -> int:
        return len(self._names)

    def describe(self, index: int) -> tuple[str, int]:
        return self._names[index], int(self._labels[index])

    def __getitem__(self, index: int) -> Picture:
        name, label = self.describe(index)
        return Picture(name, label, (self.path.parent / os.path.expanduser(name)).read_bytes())


def _as_labels(words: list[str], path: Path) -> tuple[list[str], np.ndarray]:
    """Class names and positions among them: whole numbers are the positions, other words are sorted."""
    if not words:
        return [], np.empty(0, np.int64)
    if all(word.isdecimal() for word in words):
        longest = max(words, key=lambda word: len(word.lstrip("0")))
        if len(longest.lstrip("0")) > len(str(MAX_CLASSES)):  # before `int`, which refuses thousands of digits
            raise UserError(f"{path} has the class number {longest[:40]}", allowed=f"0 to {MAX_CLASSES - 1:,}")
        labels = np.array([int(word) for word in words])
        return numbered_classes(int(labels.max()), str(path)), labels
    names = sorted(set(words))
    positions = {name: position for position, name in enumerate(names)}
    return names, np.array([positions[word] for word in words])


# ---- which of them ---------------------------------------------------------------------------------------


def open_archive(path: Path, split: str) -> Source | None:
    """A file that is an archive or a list, or a folder that holds nothing but shards; None for anything else."""
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix == ".tar" and file.is_file())
        return TarShards(of_split(files, split), split) if files else None
    name = path.name.lower()
    if name.endswith(".tar"):
        return TarShards([path], split)
    if name.endswith(".zip"):
        return ZipFolder(path, split)
    return PathList(path, split) if name.endswith((".txt", ".tsv", ".lst")) else None
