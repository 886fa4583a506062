"""A folder of `.npy` files, an image each, where it has no other images: beside others arrays are masks or features."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from barlowctl.data.images import formats
from barlowctl.data.labels.label_table import FilesOnDisk
from barlowctl.data.sources.image_folder import no_images
from barlowctl.data.sources.named_images import NamedImages
from barlowctl.data.sources.picture import Picture
from barlowctl.data.sources.read_options import ClassFolders
from barlowctl.data.tree.regular import open_regular, read_regular
from barlowctl.data.tree.scan import Scan
from barlowctl.data.tree.scan_report import ScanReport


class NumpyFolder(NamedImages):
    """Arrays in files below a folder, each of which `numpy_array` reads.

    Raises:
        UserError: none there, or as `NamedImages` does.
    """

    def __init__(self, path: Path, split: str, class_folders: ClassFolders | None = None) -> None:
        self.kind = "images in NumPy files"
        names = Scan(path, self.scan_report, also=formats.NUMPY).walk()
        if not names:
            raise no_images(path, self.scan_report)
        self._arrange(path, split, names, class_folders)

    def _beside(self) -> Iterable[str]:
        for folder, _, files in os.walk(self.path):
            below = os.path.relpath(folder, self.path)
            yield from (file if below == "." else os.path.join(below, file) for file in sorted(files))

    def _tables(self, beside: Sequence[str]) -> FilesOnDisk:
        return FilesOnDisk()

    def _training(self) -> NumpyFolder:
        return NumpyFolder(self.path, "train")

    def _read(self, name: str, size: int = -1) -> bytes:
        with open_regular(self.path / name) as file:
            return file.read(size)

    def __getitem__(self, index: int) -> Picture:
        name, label = self._files[index]
        return Picture(name, label, read_regular(self.path / name))

    def file(self, index: int) -> Path:
        return self.path / self._files[index][0]


def has_arrays(path: Path) -> bool:
    """Whether `.npy` files lie below a folder."""
    return bool(Scan(path, ScanReport(), also=formats.NUMPY).walk())
