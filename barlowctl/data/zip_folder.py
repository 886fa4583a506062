"""Images in a zip file, 630 bytes of memory an image, most of them zipfile's own."""

from __future__ import annotations

import posixpath
import zipfile
from collections.abc import Sequence
from pathlib import Path

from barlowctl.data.damage import DAMAGED
from barlowctl.data.picture import Picture, Source, is_image
from barlowctl.data.splits import SPLIT_WORDS
from barlowctl.errors import UserError


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
        except DAMAGED as error:
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
        except DAMAGED as error:
            raise OSError(f"damaged in the zip file: {error}") from error


def _common_folder(names: Sequence[str]) -> str:
    """The folder that all images lie in or below, with its slash; "" for the top."""
    common = posixpath.commonpath([name.rpartition("/")[0] for name in names])
    return f"{common}/" if common else ""


def _folders(names: Sequence[str], prefix: str) -> list[str]:
    below = {name[len(prefix) :] for name in names if name.startswith(prefix)}
    return sorted({name.partition("/")[0] for name in below if "/" in name})
