"""The `.beton` file: FFCV's dataset format (version 2), read without importing ffcv; `writer` writes it.

`layout` has the layout. FFCV ignores what lies between the metadata and the first image, so our JSON
block (class names, source, content hash, counts, skipped names, date) sits there; see `Beton.info`.
"""

from __future__ import annotations

import copy
import hashlib
import json
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from barlowctl.channels import MOST_CHANNELS, are_bands, stored_as
from barlowctl.data.beton.layout import (
    DESCRIPTOR,
    FIELD_RECORDS,
    FORMAT_VERSION,
    HEADER,
    IMAGE_FIELD,
    INFO_MAGIC,
    INT_FIELD,
    JPEG,
    RAW,
    TABLE_ENTRY,
    hash_sample,
)
from barlowctl.data.beton.mapped import Opening, check_whole, map_file, write_again, written_anew
from barlowctl.data.beton.names import Names, PickedNames
from barlowctl.data.images.unreadable import Unreadable, UnreadableImage
from barlowctl.data.sources.fingerprint import Fingerprint
from barlowctl.data.tree.scan_report import ScanReport
from barlowctl.errors import UserError


class Beton:
    """An opened `.beton` file. Arrays have one entry per sample; the file's bytes are memory-mapped.

    path: Path                  num_samples: int             page_size: int (bytes)
    labels: (n,) int64, -1 where unlabelled
    modes: (n,) uint8 (`JPEG` or `RAW`)
    heights, widths: (n,) int64, pixels
    pointers, sizes: (n,) int64, bytes; sample i is `bytes[pointers[i] : pointers[i] + sizes[i]]`
    bytes: (file size,) uint8, read-only memory map
    class_names: list[str], empty where unknown (files by other writers)
    info: what our packer noted (source, counts, skipped, channels, content_hash, ...), {} for other files
    scan_report: notes on how this file was chosen; what its packer skipped is in `info`
    names: of the images, looked up one at a time; see `has_names`
    """

    path: Path
    bytes: np.ndarray
    num_samples: int
    page_size: int
    labels: np.ndarray
    modes: np.ndarray
    heights: np.ndarray
    widths: np.ndarray
    pointers: np.ndarray
    sizes: np.ndarray
    _table_start: int
    _opening: list[Opening]
    _whole: tuple[np.ndarray, np.ndarray]
    class_names: list[str]
    info: dict[str, Any]
    scan_report: ScanReport

    @classmethod
    def open(cls, path: str | Path) -> Beton:
        """Map and check a file.

        Raises:
            UserError: not a `.beton`, unfinished or cut short, or a sample that lies outside of the file.
        """
        beton = cls()
        beton.scan_report = ScanReport()
        beton.path = Path(path)
        beton.bytes = map_file(beton.path)
        beton._opening = [Opening.of(beton.path)]
        metadata, image_key, label_key, metadata_end, table = beton._read_structure()
        image = metadata[image_key]
        beton.modes = np.ascontiguousarray(image["mode"])
        beton.widths = image["width"].astype(np.int64)
        beton.heights = image["height"].astype(np.int64)
        pointers = np.ascontiguousarray(image["data_ptr"])
        beton.sizes = beton._match_sizes(pointers, table)
        beton.pointers = pointers.astype(np.int64)
        if label_key is None:
            beton.labels = np.full(beton.num_samples, -1, dtype=np.int64)
        else:
            beton.labels = metadata[label_key].astype(np.int64)
        beton.info = beton._read_info(metadata_end)
        beton._check_images()
        beton._whole = beton.pointers, beton.sizes
        names = beton.info.get("class_names", [])
        beton.class_names = [str(name).encode("utf-8", "backslashreplace").decode() for name in names]
        return beton

    def __len__(self) -> int:
        return self.num_samples

    def pick(self, rows: np.ndarray) -> Beton:
        """Some of the samples, as samples of their own; `info` and the noted hash are those of the whole file."""
        picked = copy.copy(self)
        vars(picked).pop("fingerprint", None)
        if self.has_names:
            vars(picked)["names"] = PickedNames(self.names, rows)
        for name in ("labels", "modes", "heights", "widths", "pointers", "sizes"):
            setattr(picked, name, getattr(self, name)[rows])
        picked.num_samples = len(rows)
        return picked

    @property
    def has_names(self) -> bool:
        """Whether the packer kept the names of the images (files of earlier versions and of FFCV have none)."""
        return "names_at" in self.info

    @cached_property
    def names(self) -> Names | PickedNames:
        """The names of the images, read when asked for.

        Raises:
            UserError: the file has none, or their section is damaged.
        """
        if not self.has_names:
            raise self._bad("it does not have the names of its images")
        try:
            return Names(self.bytes, self.info, self.num_samples, self._table_start)
        except ValueError as error:
            raise self._bad(str(error)) from error

    def name_of(self, index: int) -> str:
        """What to call an image: its name where the file has names, else "sample 7"."""
        return self.names[index] if self.has_names else f"sample {index}"

    @property
    def num_classes(self) -> int:
        """Number of classes: of the names where known, else the largest label + 1."""
        return max(len(self.class_names), int(self.labels.max(initial=-1)) + 1)

    @property
    def channels(self) -> int:
        """1 when every image was grey at its source (stored as three equal channels); of bands as many; else 3."""
        channels = self.info.get("channels", 3)
        return channels if isinstance(channels, int) and 1 <= channels <= MOST_CHANNELS else 3

    @property
    def stored_channels(self) -> int:
        """Values of a raw pixel: see `channels.stored_as`."""
        return stored_as(self.channels)

    @property
    def noted_hash(self) -> str | None:
        """The content hash that the packer wrote into the file; None where another program wrote it."""
        return noted if isinstance(noted := self.info.get("content_hash"), str) else None

    @property
    def content_hash(self) -> str:
        """sha256 over modes, sizes, labels and stored bytes, in order; computed (reads it all) where not noted."""
        return self.noted_hash or self.compute_hash()

    @cached_property
    def fingerprint(self) -> Fingerprint:
        """What identifies these images: the content hash."""
        return Fingerprint(True, self.num_samples, self.content_hash)

    def compute_hash(self) -> str:
        """The content hash computed anew: reads the whole file."""
        digest = hashlib.sha256()
        for i in range(self.num_samples):
            shape = int(self.modes[i]), int(self.widths[i]), int(self.heights[i])
            hash_sample(digest, *shape, int(self.labels[i]), self.stored(i))
        return digest.hexdigest()

    def check_whole(self) -> None:
        """Refuse a file that since it was opened was cut short (see `mapped.check_whole`) or copied over."""
        check_whole(self.path, self.bytes)
        if (now := self._opening[0].since(self.path)) is not None:
            if not self._holds_what_was_opened():
                raise written_anew(self.path)
            self._opening[0] = now  # for all who picked from it too

    def _holds_what_was_opened(self) -> bool:
        """Whether the file's table and hash are those that were read; pixels are not looked at."""
        try:
            now = Beton.open(self.path)
        except UserError:
            return False
        pairs = zip(self._whole, now._whole, strict=True)
        return now.noted_hash == self.noted_hash and all(np.array_equal(*pair) for pair in pairs)

    def stored(self, index: int) -> np.ndarray:
        """The stored bytes of one sample: (size,) uint8, a read-only view of the file.

        Raises:
            UserError: see `check_whole`.
        """
        self.check_whole()
        start = self.pointers[index]
        return self.bytes[start : start + self.sizes[index]]

    def image(self, index: int) -> np.ndarray:
        """One decoded image, uint8 (H, W, `stored_channels`); JPEG through Pillow (the slow, independent way).

        Raises:
            UnreadableImage: the stored JPEG does not decode, or not to the noted size.
        """
        height, width = int(self.heights[index]), int(self.widths[index])
        if self.modes[index] == RAW:
            return np.array(self.stored(index)).reshape(height, width, self.stored_channels)
        from barlowctl.data.images.pillow_reader import open_image

        try:
            with open_image(self.stored(index).tobytes()) as opened:
                if opened.size != (width, height):  # before so many pixels are decoded
                    raise Unreadable(f"it is {opened.size[0]} x {opened.size[1]} pixels, noted {width} x {height}")
                return np.array(opened.convert("RGB"))
        except (OSError, SyntaxError, ValueError, Unreadable) as error:
            reason = f"not a readable JPEG ({error})"
            again = write_again(self.path)
            raise UnreadableImage(self.path, self.name_of(index), reason, next=again) from error

    def _bad(self, what: str) -> UserError:
        return UserError(f"{self.path}: {what}", next=write_again(self.path))

    def _read_structure(self) -> tuple[np.ndarray, str, str | None, int, np.ndarray]:
        """Header, descriptors, metadata and table; sets `num_samples` and `page_size`."""
        total = len(self.bytes)
        if total < HEADER.itemsize:
            raise self._bad(f"not a .beton file ({total} bytes)")
        header = self.bytes[: HEADER.itemsize].view(HEADER)[0]
        num_fields, table_start = int(header["num_fields"]), int(header["alloc_table_ptr"])
        self._table_start = table_start
        if header["version"] != FORMAT_VERSION or not 0 < num_fields <= 256:
            raise self._bad("not a .beton file of FFCV's format version 2")
        self.num_samples, self.page_size = int(header["num_samples"]), int(header["page_size"])
        if self.page_size < 2 or self.page_size & (self.page_size - 1):
            raise self._bad(f"page size {self.page_size} is not a power of two")
        if table_start == 0:
            raise self._bad("unfinished: its writer was stopped before the end")
        start = HEADER.itemsize + num_fields * DESCRIPTOR.itemsize
        if start > total:
            raise self._bad("cut short within the field descriptors")
        types = [int(t) for t in self.bytes[HEADER.itemsize : start].view(DESCRIPTOR)["type_id"]]
        if IMAGE_FIELD not in types or any(t not in FIELD_RECORDS for t in types):
            raise self._bad(f"needs FFCV's RGBImageField and no custom fields; its field types are {types}")
        record = np.dtype([("", FIELD_RECORDS[t]) for t in types], align=True)
        end = start + self.num_samples * record.itemsize
        if self.num_samples == 0:
            raise self._bad("holds no images")
        if end > table_start or table_start > total or (total - table_start) % TABLE_ENTRY.itemsize:
            raise self._bad(f"cut short: {total} bytes, but its table is at byte {table_start}")
        metadata = self.bytes[start:end].view(record)
        label = f"f{types.index(INT_FIELD)}" if INT_FIELD in types else None
        table = self.bytes[table_start:].view(TABLE_ENTRY)
        if len(table) < self.num_samples:
            raise self._bad(f"cut short: sizes of {len(table)} of {self.num_samples} images")
        return metadata, f"f{types.index(IMAGE_FIELD)}", label, end, table

    def _match_sizes(self, pointers: np.ndarray, table: np.ndarray) -> np.ndarray:
        """(n,) int64: the size the table gives for each image's address."""
        order = np.argsort(table["ptr"], kind="stable")
        places = np.minimum(np.searchsorted(table["ptr"], pointers, sorter=order), len(table) - 1)
        entries = table[order[places]]
        limit = len(self.bytes) - table.nbytes
        outside = (entries["ptr"] != pointers) | (pointers > limit) | (entries["size"] > limit)
        outside |= entries["size"] == 0
        sizes = np.where(outside, 0, entries["size"]).astype(np.int64)
        outside |= np.where(outside, 0, pointers).astype(np.int64) + sizes > limit
        if outside.any():
            raise self._bad(f"sample {int(np.argmax(outside))} points outside of the file's data")
        return sizes

    def _check_images(self) -> None:
        unknown = (self.modes != JPEG) & (self.modes != RAW)
        if unknown.any():
            i = int(np.argmax(unknown))
            raise self._bad(f"sample {i} has storage mode {int(self.modes[i])}; known are 0 (JPEG) and 1 (raw)")
        pixels = self.widths * self.heights
        wrong = np.where(self.modes == RAW, self.sizes != pixels * self.stored_channels, are_bands(self.channels))
        if (wrong | (pixels == 0)).any():
            i = int(np.argmax(wrong | (pixels == 0)))
            shape = f"{self.widths[i]}x{self.heights[i]}"
            raise self._bad(f"sample {i} is noted as {shape} pixels but has {self.sizes[i]} bytes")

    def _read_info(self, start: int) -> dict[str, Any]:
        """Our JSON block in the gap after the metadata, {} where there is none."""
        begin = start + len(INFO_MAGIC) + 8
        if begin > len(self.bytes) or self.bytes[start : start + len(INFO_MAGIC)].tobytes() != INFO_MAGIC:
            return {}
        length = int.from_bytes(self.bytes[begin - 8 : begin].tobytes(), "little")
        try:
            info: dict[str, Any] = {**json.loads(self.bytes[begin : begin + length].tobytes())}
        except (ValueError, TypeError) as error:  # TypeError: JSON, and not an object
            raise self._bad(f"its information block is damaged ({error})") from error
        return info
