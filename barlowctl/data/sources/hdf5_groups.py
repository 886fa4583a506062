"""An HDF5 file whose arrays are an image each, or the bytes of an image file; its groups are read as folders are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from barlowctl.data.images.array_axes import stored
from barlowctl.data.labels.label_table import FilesInArchive
from barlowctl.data.sources.array_names import UNKNOWN, may_be_an_image
from barlowctl.data.sources.hdf5_files import in_file, read_whole
from barlowctl.data.sources.named_images import NamedImages
from barlowctl.data.sources.picture import Picture
from barlowctl.data.sources.read_options import ClassFolders


class Hdf5Groups(NamedImages):
    """Arrays of an HDF5 file, an image each, known by their paths in it.

    Raises:
        UserError: as `hdf5_files.in_file` and `NamedImages` do.
    """

    def __init__(self, path: Path, split: str, class_folders: ClassFolders | None = None) -> None:
        self.kind = "images in groups of an HDF5 file"
        arrays = in_file(path)
        self._encoded = {array.name for array in arrays if array.encoded}
        for array in arrays:
            if not may_be_an_image(array):
                self.scan_report.skip(UNKNOWN, array.name)
        names = sorted(array.name for array in arrays if may_be_an_image(array))
        self._arrange(path, split, names, class_folders)

    def _beside(self) -> Iterable[str]:
        return ()

    def _tables(self, beside: Sequence[str]) -> FilesInArchive:
        return FilesInArchive(self.path, {}, self._read)

    def _training(self) -> Hdf5Groups:
        return Hdf5Groups(self.path, "train")

    def _read(self, name: str, size: int = -1) -> bytes:
        values = read_whole(self.path, name)
        return bytes(values.tobytes() if size < 0 else values.tobytes()[:size])

    def __getitem__(self, index: int) -> Picture:
        name, label = self._files[index]
        if name in self._encoded:
            return Picture(name, label, self._read(name))
        return Picture(name, label, stored(np.asarray(read_whole(self.path, name))))
