"""One image file as a source of one picture."""

from __future__ import annotations

from pathlib import Path

from barlowctl.data.names import written
from barlowctl.data.sources.picture import Picture, Source
from barlowctl.data.tree.regular import read_regular


class ImageFile(Source):
    """A single image, without a label."""

    def __init__(self, path: Path, split: str) -> None:
        self.kind, self.path, self.split, self.class_names = "images", path, split, []

    def __len__(self) -> int:
        return 1

    def describe(self, index: int) -> tuple[str, int]:
        return written(self.path.name), -1

    def __getitem__(self, index: int) -> Picture:
        return Picture(written(self.path.name), -1, read_regular(self.path))

    def file(self, index: int) -> Path:
        return self.path
