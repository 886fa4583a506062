"""The names of a packed file's images: a section between the last image and FFCV's table, which FFCV skips.

    offsets  (n + 1) x 8 bytes, little-endian: name i is text[offsets[i] : offsets[i + 1]]
    text     UTF-8; each name a line of text (see `names.written`)

The information block says where it begins (`names_at`) and its checksum (`names_crc32`). Readers map it and look up one
name at a time; the writer keeps 8 bytes an image in memory, and the text on disk.
"""

from __future__ import annotations

import tempfile
import zlib
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

_IN_MEMORY = 16 << 20
_PIECE = 1 << 20


class NamesWriter:
    """Collects names in the order of the images, in `folder` once there are many."""

    def __init__(self, folder: Path) -> None:
        self._offsets = array("Q", [0])
        self._text = tempfile.SpooledTemporaryFile(_IN_MEMORY, "w+b", dir=str(folder))  # noqa: SIM115  closed below

    def append(self, name: str) -> None:
        """Add the next image's name.

        Raises:
            OSError: the disk is full or failing.
        """
        encoded = name.encode()
        self._text.write(encoded)
        self._offsets.append(self._offsets[-1] + len(encoded))

    def pieces(self) -> Iterator[bytes]:
        """The section, piece by piece."""
        yield np.array(self._offsets, dtype="<u8").tobytes()
        self._text.seek(0)
        while piece := self._text.read(_PIECE):
            yield piece

    def close(self) -> None:
        """Remove what was kept on disk."""
        self._text.close()


class Names:
    """The section of an opened file.

    Raises:
        ValueError: it does not lie within the file's bytes, or is damaged.
    """

    def __init__(self, data: np.ndarray, info: dict[str, Any], count: int, end: int) -> None:
        start = info.get("names_at")
        text = (start + 8 * (count + 1)) if isinstance(start, int) else 0
        if not isinstance(start, int) or not 0 < start <= text <= end:
            raise ValueError("the section of names lies outside of the file")
        self._offsets = data[start:text].view("<u8") if start % 8 == 0 else np.frombuffer(data[start:text], "<u8")
        if (
            self._offsets[0] != 0
            or self._offsets[-1] > end - text
            or bool((np.diff(self._offsets.view("<i8")) < 0).any())
        ):
            raise ValueError("the section of names is damaged")
        self._text = data[text : text + int(self._offsets[-1])]
        self._section, self._checksum = data[start : text + int(self._offsets[-1])], info.get("names_crc32")

    def __getitem__(self, index: int) -> str:
        begin, end = int(self._offsets[index]), int(self._offsets[index + 1])
        return self._text[begin:end].tobytes().decode("utf-8", "replace")

    def intact(self) -> bool:
        """Whether the checksum is that of the bytes; reads them all."""
        value = 0
        for at in range(0, len(self._section), _PIECE):
            value = zlib.crc32(self._section[at : at + _PIECE].data, value)
        return value == self._checksum


class PickedNames:
    """The names of some samples, in the order of `rows`."""

    def __init__(self, names: Names | PickedNames, rows: np.ndarray) -> None:
        self._names, self._rows = names, rows

    def __getitem__(self, index: int) -> str:
        return self._names[int(self._rows[index])]

    def intact(self) -> bool:
        """See `Names`."""
        return self._names.intact()
