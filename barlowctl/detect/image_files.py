"""Image files that annotations name: whether they are there, and their pixels."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from barlowctl.amounts import counted
from barlowctl.data.images.conversion import Conversion
from barlowctl.data.images.pixels import decode_picture
from barlowctl.data.images.unreadable import Unreadable, UnreadableImage
from barlowctl.data.names import written
from barlowctl.data.tree.regular import read_regular
from barlowctl.detect.left_out import first
from barlowctl.errors import UserError


def require_files(folder: Path, names: Sequence[str], annotations: Path) -> None:
    """Refuse annotations of images that are not in the folder.

    Raises:
        UserError: with how many are missing, and which.
    """
    by_folder: dict[Path, set[str]] = {}
    missing = []
    for name in names:
        path = folder / name
        if path.parent not in by_folder:
            by_folder[path.parent] = set(os.listdir(path.parent)) if path.parent.is_dir() else set()
        if path.name not in by_folder[path.parent]:
            missing.append(written(name))
    if missing:
        raise UserError(
            f"{annotations}: {len(missing):,} of its {counted(len(names), 'image')} "
            f"{'is' if len(missing) == 1 else 'are'} not in {folder}: {first(missing)}",
            next=f"put the images into {folder}, or take them out of {annotations.name}",
        )


def _setting_of(error: Unreadable | OSError, index: int) -> str:
    return error.setting if isinstance(error, Unreadable) else ""


@dataclass
class Reading:
    """How image files become pixels.

    Attributes:
        conversion: what becomes of more than 8 bits, transparency and more than three bands.
        lacking: what an image needs to be read, by its error and its position: see `data.sources.lacking`.
    """

    conversion: Conversion = field(default_factory=Conversion)
    lacking: Callable[[Unreadable | OSError, int], str] = _setting_of

    def image(self, folder: Path, name: str, index: int, size: tuple[int, int] | None) -> np.ndarray:
        """uint8 (H, W, 3) of an image file, upright.

        Args:
            size: height and width that the annotations say; None: any.

        Raises:
            UnreadableImage: it cannot be read, or is of another size: its boxes would lie elsewhere.
        """
        try:
            pixels = decode_picture(read_regular(folder / name), self.conversion).pixels
            if size is not None and pixels.shape[:2] != size:
                height, width = pixels.shape[:2]
                turned = ", as it is without its EXIF rotation" if size == (width, height) else ""
                says = f"its annotation says {size[1]} x {size[0]}{turned}"
                raise Unreadable(f"it is {width} x {height} pixels, and {says}")
        except (OSError, Unreadable) as error:
            lacking, is_gone = self.lacking(error, index), not folder.exists()
            raise UnreadableImage.of(folder, written(name), error, lacking, is_gone=is_gone) from error
        return np.repeat(pixels[..., None], 3, axis=2) if pixels.ndim == 2 else pixels
