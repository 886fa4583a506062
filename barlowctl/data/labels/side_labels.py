"""Labels in small files beside images, of the same name: `.cls`, `.json` with a label, `.txt` (as in WebDataset)."""

from __future__ import annotations

import contextlib
import json
from array import array
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from barlowctl.data.labels.numbering import Codebook, Labels, label_in, settle

KINDS = ("cls", "json", "txt")
"""Endings, best first: of several beside an image the first that all in all holds labels counts."""

LARGEST = 1 << 20
"""Bytes of a side file that are read."""

_LOOKED_AT = 1000  # files without a label, before the others are taken to have none
_PER_CAPTION = 2  # labels at least, or all texts are captions
_CAPTION = 64  # characters: longer text is a caption
_DISTINCT = 10_000  # texts: more are captions


class SideLabels:
    """Collects what lies beside images, shard by shard, and makes class numbers of it.

    Keeps eight bytes an image and kind, and the distinct labels.
    """

    def __init__(self) -> None:
        self._books = {kind: Codebook() for kind in KINDS}
        self._codes = {kind: array("q") for kind in KINDS}
        self._shard_codes: dict[str, dict[str, int]] = {kind: {} for kind in KINDS}
        self._counts = dict.fromkeys(KINDS, 0)
        self._others: dict[str, set[str]] = {kind: set() for kind in KINDS}  # files of this shard without a label
        self._beside = dict.fromkeys(KINDS, 0)  # how many such files lie beside an image
        self._captions = 0
        self._images = 0
        self._closed: set[str] = set()
        self._keys: dict[str, None] = {}

    def wants(self, name: str) -> bool:
        """Whether a file of this name is to be added."""
        kind = _kind(name)
        return kind in KINDS and kind not in self._closed

    def add(self, name: str, content: bytes) -> None:
        """Take in a side file (`LARGEST` bytes of it)."""
        kind = _kind(name)
        self._counts[kind] += 1
        value: object = content.decode("utf-8-sig", "surrogateescape").strip()
        if kind == "json":
            value = self._in_json(content)
            if value is None and not self._shard_codes[kind] and self._counts[kind] >= _LOOKED_AT:
                self._closed.add(kind)
        elif kind == "txt" and _is_caption(str(value)):
            value, self._captions = None, self._captions + 1
            if self._captions >= _LOOKED_AT:
                self._closed.add(kind)
        if kind == "txt" and len(self._books[kind].counts) > _DISTINCT:
            self._closed.add(kind)
        if value is None or kind in self._closed:
            self._others[kind].add(key_of(name))
        else:
            self._shard_codes[kind][key_of(name)] = self._books[kind].code(value)

    @property
    def any_added(self) -> bool:
        """Whether any file was added, with a label or without."""
        return any(self._counts.values())

    def end_shard(self, names: Sequence[str]) -> None:
        """The images that the files added since the last call may belong to, in order."""
        for kind in KINDS:
            shard_codes, codes = self._shard_codes[kind], self._codes[kind]
            if shard_codes or codes:
                codes.extend([-1] * (self._images - len(codes)))
                codes.extend(shard_codes.get(key_of(name), -1) for name in names)
                shard_codes.clear()
            others = self._others[kind]
            if others:
                self._beside[kind] += sum(key_of(name) in others for name in names)
            others.clear()
        self._images += len(names)

    def settle(self, where: str, training_classes: Sequence[str] | None = None) -> Labels | None:
        """Labels of all images, in order; None where no side file holds any.

        Raises:
            UserError: see `numbering.settle`.
        """
        notes: list[str] = []
        for kind in KINDS:
            codes = np.array(self._codes[kind], dtype=np.int64)
            labelled = int(np.count_nonzero(codes >= 0))
            captions = kind == "txt" and self._beside[kind] * _PER_CAPTION > labelled
            if kind in self._closed or not labelled or captions:
                if self._beside[kind]:
                    what = (
                        f"no label in them (keys: {', '.join(self._keys)})" if kind == "json" else "texts, not labels"
                    )
                    notes.append(f"{where}: .{kind} files lie beside the images: {what}")
                continue
            codes = np.append(codes, np.full(self._images - len(codes), -1, dtype=np.int64))
            settled = settle(self._books[kind], f"{where}: the label (.{kind})", training_classes=training_classes)
            if not settled.class_names:
                notes += settled.notes
                continue
            numbers = np.append(settled.numbers, -1)[codes]  # code -1, no file, takes the last
            files = kind, labelled
            return Labels(numbers, settled.class_names, (*notes, *settled.notes), files)
        return Labels(np.full(self._images, -1, dtype=np.int64), [], tuple(notes)) if notes else None

    def _in_json(self, content: bytes) -> object:
        try:
            record = json.loads(content)
        except (ValueError, RecursionError):
            return None
        if isinstance(record, bool | int | float | str):
            return record
        if isinstance(record, dict) and len(self._keys) < 8:
            self._keys |= dict.fromkeys(map(str, list(record)[:8]))
        named = label_in(record)
        return None if named is None else named[1]


def _is_caption(text: str) -> bool:
    return len(text) > _CAPTION or "\n" in text or len(text.split()) > 3


def read_side_labels(names: Sequence[str], files: Iterable[str], read: Callable[[str], bytes], where: str) -> Labels:
    """Labels of images in the files beside them; all -1 where there are none.

    Args:
        names: of the images. files: of what may lie beside them. read: the first `LARGEST` bytes of one; a file that it
            raises OSError for has no label.

    Raises:
        UserError: see `numbering.settle`.
    """
    side = SideLabels()
    keys: set[str] = set()
    for file in files:
        if side.wants(file):
            keys = keys or {key_of(name) for name in names}
            if key_of(file) not in keys:  # a README
                continue
            with contextlib.suppress(OSError):
                side.add(file, read(file))
    side.end_shard(names)
    return side.settle(where) or Labels(np.full(len(names), -1, dtype=np.int64), [])


def key_of(name: str) -> str:
    """WebDataset's: the path up to the first dot of its last part."""
    folder, _, base = name.rpartition("/")
    return f"{folder}/{base.split('.')[0]}"


def _kind(name: str) -> str:
    return name.rpartition("/")[2].rpartition(".")[2].lower()
