"""A safetensors file of feature maps that is written one map at a time: it may be larger than the memory."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np

from barlowctl.errors import UserError
from barlowctl.files import atomic_write

LONGEST_HEADER = 100_000_000
"""Bytes; what readers of safetensors take."""
PREFIX = "maps/"
_DTYPES = {"float32": "F32", "int32": "I32", "uint8": "U8"}
_ENTRY = 180  # bytes of an entry of the header beside its name, at most


class MapFile:
    """Maps under `maps/NAME`, and what belongs to all of them: see `write_maps`."""

    def __init__(self, stream: BinaryIO, header_length: int) -> None:
        self._stream, self._header_length = stream, header_length
        self._entries: dict[str, object] = {}
        self._end = 0
        stream.write(b" " * (8 + header_length))

    def add(self, name: str, map: np.ndarray) -> None:
        """Write the map `(F, h, w)` float32 of an image."""
        self._add(f"{PREFIX}{name}", map)

    def _add(self, key: str, values: np.ndarray) -> None:
        if key in self._entries:
            raise UserError(f"two images are called '{key.removeprefix(PREFIX)}'", next="rename one of them")
        start, self._end = self._end, self._end + values.nbytes
        self._entries[key] = {
            "dtype": _DTYPES[str(values.dtype)],
            "shape": list(values.shape),
            "data_offsets": [start, self._end],
        }
        self._stream.write(np.ascontiguousarray(values).data)

    def finish(self, tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> None:
        """Write what belongs to all maps, and the header, into the place that was left for it."""
        for key, values in tensors.items():
            self._add(key, values)
        header = json.dumps({"__metadata__": dict(metadata), **self._entries}, separators=(",", ":")).encode()
        if len(header) > self._header_length:
            raise ValueError(f"a header of {len(header)} bytes in the place for {self._header_length}")
        self._stream.seek(0)
        self._stream.write(struct.pack("<Q", self._header_length) + header.ljust(self._header_length))


def check_names(path: Path, names: Sequence[str], metadata: Mapping[str, str]) -> int:
    """How long the header of a file with maps of these images can become, in bytes.

    Raises:
        UserError: longer than readers take.
    """
    # Of an image that cannot be read, the name is in the metadata instead: JSON within JSON.
    entries = sum(len(json.dumps(json.dumps(name))) + _ENTRY for name in (*names, "labels", "sizes", "names"))
    length = entries + len(json.dumps({"__metadata__": dict(metadata)})) + 1024
    if length > LONGEST_HEADER:
        raise UserError(
            f"maps of {len(names):,} images are too many for one file: the list of their names is too long for the "
            "readers of '.safetensors'",
            allowed=f"about {len(names) * LONGEST_HEADER // length:,} images of such names",
            next="name a folder with fewer images with --data",
        )
    return -(-length // 8) * 8


@contextmanager
def write_maps(path: Path, names: Sequence[str], metadata: Mapping[str, str]) -> Iterator[MapFile]:
    """Write a file of maps of (some of) the images called `names`; `metadata` is what the header will hold at most.

    Nothing is at `path` before all of it is. The header is at the beginning of a safetensors file and has the place of
    every tensor, so that room is left for it, as long as it can become.

    Raises:
        UserError: see `check_names`.
        OSError: it cannot be written.
        FileExistsError: something is at `path`.
    """
    length = check_names(path, names, metadata)
    with atomic_write(path, new=True) as temporary, open(temporary, "wb") as stream:
        yield MapFile(stream, length)
