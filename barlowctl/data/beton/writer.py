"""Writes the `.beton` file (see `reader` and `layout`): FFCV's format, which stock FFCV reads.

It is our own: FFCV's writer recompresses JPEGs, keeps all metadata in shared memory, and waits for ever when one
sample fails.
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import json
import os
import zlib
from pathlib import Path
from typing import IO, Any

import numpy as np

from barlowctl import __version__
from barlowctl.channels import are_bands
from barlowctl.data.beton.layout import (
    DESCRIPTOR,
    FORMAT_VERSION,
    HEADER,
    IMAGE_FIELD,
    IMAGE_RECORD,
    INFO_MAGIC,
    INT_FIELD,
    JPEG,
    MAX_PAGE_SIZE,
    MAX_SIDE,
    PAGE_SIZE,
    RAW,
    TABLE_ENTRY,
    hash_sample,
)
from barlowctl.data.beton.names import NamesWriter
from barlowctl.errors import UserError
from barlowctl.files import put_in_place
from barlowctl.locks import take


class BetonWriter:
    """Writes a `.beton` sample by sample, in order; nothing appears under the final name before the end.

    Use as a context manager: leaving it without `finish` removes what was written. Room for `capacity`
    samples is reserved up front; fewer may be appended (the unused rest becomes part of the gap). Bytes go
    to `.NAME.partial` in the same folder, locked against a second writer; a killed process may leave it, and
    the next one reuses it.

    Args:
        path: the final name.
        capacity: the most samples that will be appended.
        class_names: names of labels 0, 1, ...
        channels: values of a raw pixel, 3 but of bands (see `channels.stored_as`).
        page_size: bytes, a power of two; doubled as often as an image needs it.
        overwrite: replace an existing file (at the very end, atomically).

    Raises:
        UserError: the file exists, its folder cannot be written, or another process is writing it.
        ValueError: a page size that the format does not have.
    """

    def __init__(
        self,
        path: str | Path,
        capacity: int,
        class_names: list[str] | tuple[str, ...] = (),
        *,
        channels: int = 3,
        page_size: int = PAGE_SIZE,
        overwrite: bool = False,
    ) -> None:
        if page_size & (page_size - 1) or not 2 << 20 <= page_size <= MAX_PAGE_SIZE:
            raise ValueError(f"pages of {page_size} bytes: a power of two of {2 << 20} to {MAX_PAGE_SIZE} is read")
        self.path = Path(path)
        if self.path.is_dir():
            raise UserError(f"{self.path} is a folder", next="give a file name, e.g. images.beton")
        if self.path.exists() and not overwrite:
            raise UserError(f"{self.path} exists already", next="--overwrite")
        self.class_names, self.channels = list(class_names), channels
        self.count = 0
        self._page_size = page_size
        self._record = np.dtype([("f0", IMAGE_RECORD), ("f1", "<i8")], align=True)
        self._metadata = np.zeros(capacity, dtype=self._record)
        self._table = np.zeros(capacity, dtype=TABLE_ENTRY)
        self._digest = hashlib.sha256()
        self._names: NamesWriter | None = None
        self._named = 0
        self._metadata_start = HEADER.itemsize + 2 * DESCRIPTOR.itemsize
        room = (1 << 20) + len(json.dumps(self.class_names))
        self._position = _round_up(self._metadata_start + self._metadata.nbytes + room, page_size)
        self._data_start = self._position
        self._partial = self.path.with_name(f".{self.path.name}.partial")
        self._file: IO[bytes] | None = self._open_partial()
        self._file.seek(self._position)

    def __enter__(self) -> BetonWriter:
        return self

    def __exit__(self, *exception: object) -> None:
        self.abort()

    def append(
        self, payload: Any, *, mode: int, width: int, height: int, label: int = -1, name: str | None = None
    ) -> None:
        """Add one image.

        Args:
            payload: a JPEG's bytes, or H x W x `channels` uint8 pixels (bytes or a contiguous array).
            mode: `JPEG` or `RAW`.
            width, height: pixels, at most `MAX_SIDE`.
            label: class index, -1 for none.
            name: of the image; given for all of them or for none.

        Raises:
            ValueError: an image that the format cannot hold, or one more than `capacity`. The writer stays usable.
            OSError: the disk is full or failing.
        """
        assert self._file is not None
        if self.count == len(self._metadata):
            raise ValueError(f"{self.path} was given room for {self.count} images and has them")
        view = memoryview(payload).cast("B")
        size = len(view)
        if not (0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE):
            raise ValueError(f"{width}x{height} pixels: the .beton format holds at most {MAX_SIDE} a side")
        if size > MAX_PAGE_SIZE:
            raise ValueError(f"{size} bytes stored: the .beton format holds at most {MAX_PAGE_SIZE} an image")
        jpeg = mode == JPEG and size > 0 and not are_bands(self.channels)
        if not (jpeg or (mode == RAW and size == width * height * self.channels)):
            raise ValueError(f"{size} bytes are no image of {width}x{height} pixels in mode {mode}")
        while self._page_size < size:  # page borders of a doubled size are borders of the smaller one too
            self._page_size *= 2
        if self._position % self._page_size + size > self._page_size:
            self._position = _round_up(self._position, self._page_size)
            self._file.seek(self._position)
        self._file.write(view)
        self._metadata[self.count] = ((mode, width, height, self._position), label)
        self._table[self.count] = (self.count, self._position, size)
        if name is not None:
            if self._names is None:
                self._names = NamesWriter(self.path.parent)
            self._names.append(name)
            self._named += 1
        hash_sample(self._digest, mode, width, height, label, view)
        self._position += size
        self.count += 1

    def finish(self, **info: Any) -> str:
        """Write tables, header and the information block, then give the file its name.

        Args:
            info: anything JSON can hold, kept in the file beside class names, hash, version and date.

        Returns:
            The content hash.

        Raises:
            ValueError: no images, or names of some of them only.
            OSError: the disk is full or failing (leave the context manager to clean up).
        """
        assert self._file is not None
        if self.count == 0:
            raise ValueError(f"{self.path} would have no images")
        if self._named not in (0, self.count):
            raise ValueError(f"{self._named} of {self.count} images have names: all of them or none")
        content_hash = self._digest.hexdigest()
        info |= self._write_names(self._file)
        self._file.write(self._table[: self.count].tobytes())
        self._file.seek(self._metadata_start)
        self._file.write(self._metadata[: self.count].tobytes())
        of_bands = {"channels": self.channels} if are_bands(self.channels) else {}
        self._file.write(self._info_block({"content_hash": content_hash, **info, **of_bands}))
        self._file.seek(0)
        self._file.write(self._header())
        self._file.flush()
        put_in_place(self._partial, self.path)
        self._file.close()
        self._file = None
        if self._names is not None:
            self._names.close()
        return content_hash

    def abort(self) -> None:
        """Remove everything written so far; does nothing after `finish`."""
        if self._file is None:
            return
        self._partial.unlink(missing_ok=True)
        if self._names is not None:
            self._names.close()
        with contextlib.suppress(OSError):  # the last buffered bytes need not fit on the disk
            self._file.close()
        self._file = None

    def _write_names(self, file: IO[bytes]) -> dict[str, int]:
        """The section of names after the last image; what the information block says of it."""
        if self._names is None:
            return {}
        start = _round_up(self._position, 8)
        file.seek(start)
        self._position, value = start, 0
        for piece in self._names.pieces():
            file.write(piece)
            value = zlib.crc32(piece, value)
            self._position += len(piece)
        return {"names_at": start, "names_crc32": value}

    def _open_partial(self) -> IO[bytes]:
        while True:
            try:
                descriptor = os.open(self._partial, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            except OSError as error:
                raise UserError(
                    f"cannot write in {self.path.parent}: {error.strerror}",
                    next="create the folder, or check access",
                ) from error
            file = os.fdopen(descriptor, "r+b", buffering=1 << 20)
            if not take(file, patience=0.0):
                file.close()
                raise UserError(
                    f"another process is writing {self.path}",
                    next="wait for it to end, or write under another name",
                )
            if _has_name(file, self._partial):
                file.truncate(0)
                return file
            file.close()  # it has the final name: another process finished between the opening and the lock

    def _header(self) -> bytes:
        header = np.zeros(1, dtype=HEADER)
        header["version"], header["num_fields"] = FORMAT_VERSION, 2
        header["page_size"], header["num_samples"] = self._page_size, self.count
        header["alloc_table_ptr"] = self._position
        descriptors = np.zeros(2, dtype=DESCRIPTOR)
        for descriptor, type_id, name in zip(descriptors, (IMAGE_FIELD, INT_FIELD), (b"image", b"label"), strict=True):
            descriptor["type_id"] = type_id
            descriptor["name"][: len(name)] = np.frombuffer(name, dtype=np.uint8)
        return header.tobytes() + descriptors.tobytes()

    def _info_block(self, info: dict[str, Any]) -> bytes:
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        info = {
            "written_by": f"barlowctl {__version__}",
            "date": now,
            "class_names": self.class_names,
            **info,
        }
        text = json.dumps(info).encode()
        block = INFO_MAGIC + len(text).to_bytes(8, "little") + text
        room = self._data_start - self._metadata_start - self.count * self._record.itemsize
        if len(block) > room:
            raise ValueError(f"information block of {len(block)} bytes: there is room for {room}")
        return block


def _has_name(file: IO[bytes], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), os.stat(path))
    except FileNotFoundError:
        return False


def _round_up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple
