"""Images in tar files: a sample is the files of one name (github.com/webdataset/webdataset); 120 bytes an image."""

from __future__ import annotations

import os
import tarfile
from array import array
from collections.abc import Sequence
from pathlib import Path

from barlowctl.data.class_numbers import numbered_classes
from barlowctl.data.damage import DAMAGED
from barlowctl.data.picture import Picture, Source, is_image
from barlowctl.data.scan import system_or_hidden
from barlowctl.errors import UserError


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
        except DAMAGED as error:
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


def tar_files(path: Path) -> list[Path]:
    """Visible tar files in a folder, sorted."""
    return sorted(
        file
        for file in path.iterdir()
        if file.suffix.lower() == ".tar" and file.is_file() and not system_or_hidden(file.name, folder=False)
    )


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
