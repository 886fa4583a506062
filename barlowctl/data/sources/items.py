"""Images that a program has in hand: torch's and torchvision's data sets, lists, arrays, as a source like any other.

Every item is read once beforehand, for labels and checksums; later it must be what it was then, so that images that a
random transform changes are refused, and a run that is begun on them can be repeated.
"""

from __future__ import annotations

import threading
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from barlowctl.amounts import counted
from barlowctl.data.images.unreadable import Unreadable, reason_of
from barlowctl.data.labels.numbering import Labels, number_labels
from barlowctl.data.sources.item import (
    ALLOWED,
    AS_THEY_ARE,
    WITHOUT_FORMAT,
    WITHOUT_TRANSFORM,
    Item,
    file_of,
    is_of_numbers,
    is_tensor,
    is_to_be_decoded,
    parted,
    stored,
)
from barlowctl.data.sources.item_files import Files, class_names_of, files_of, innermost, refuse_streams
from barlowctl.data.sources.listed import IMAGES, with_labels
from barlowctl.data.sources.picture import Picture, Source
from barlowctl.data.sources.tables import Rows
from barlowctl.errors import UserError
from barlowctl.own_code import exits_are_errors, place
from barlowctl.own_code import reason_of as reason_and_place

REPEATED = 8
"""Items, spread evenly, that are read a second time at once, to see a random transform before anything is made."""


@dataclass
class _Survey:
    """What was seen of the items. files: by position. channels: how many the images have that are arrays."""

    labels: list[Any]
    names: list[str]
    extents: np.ndarray  # int64 (n, 2): bytes, checksum; -1: a file, or unreadable
    files: dict[int, Path] = field(default_factory=dict)
    channels: set[int] = field(default_factory=set)
    problems: dict[int, str] = field(default_factory=dict)


class Items(Source):
    """The images of one split.

    Args:
        images: see `IMAGES`, of one split.    title: what to call them; None: after the class of the data set.
        classes: those of the training split, which count where these images say none.
        ranged: whether it is said which values are black and white, so that floats may be any.

    Raises:
        UserError: no images, or none that can be read; several views of an image, normalised or random ones.
    """

    in_memory = True

    def __init__(
        self, images: Any, split: str = "train", *, title: str | None = None, classes: Sequence[str] = (),
        ranged: bool = False,
    ) -> None:  # fmt: skip
        refuse_streams(images)
        self._images, labels = with_labels(images)
        self._own = not isinstance(self._images, list | np.ndarray | Rows)  # code of somebody's: one thread at a time
        self.of_one_thread = self._own
        self._lock, self._ranged = threading.Lock(), ranged
        dataset = innermost(self._images)
        self._whole = dataset is self._images
        self.title = title or title_of(images)
        self.path, self.split = Path(self.title), split
        what = type(dataset)
        self.kind = f"images of {what.__module__}.{what.__qualname__}" if self._own else "images in memory"
        if not len(self._images):
            raise UserError("there are no images", allowed=IMAGES)
        self.files_below = files_of(self._images) if labels is None else None
        self._survey = _Survey([], [], np.full((len(self._images), 2), -1, np.int64))
        self._look_over(self.files_below)
        self._number(self._survey.labels if labels is None else labels, classes)
        for note in self._images.notes if isinstance(self._images, Rows) else ():
            self.scan_report.note(note)
        if self._own:
            self._read_again()

    def __len__(self) -> int:
        return len(self._survey.labels)

    def describe(self, index: int) -> tuple[str, int]:
        return self._survey.names[index], int(self._labels[index])

    def __getitem__(self, index: int) -> Picture:
        return self.begin(index)()

    def begin(self, index: int) -> Callable[[], Picture]:
        """See `Source.begin`: somebody's code is asked for the item here, and what it gives may be written over then.

        What Pillow has not decoded yet, and the checksum, are left for later.
        """
        name, _ = self.describe(index)
        if (file := self._survey.files.get(index)) is not None:
            return lambda: self._picture(index, stored(file, name), is_file=True)
        item = self._item(index)
        if is_to_be_decoded(item.image):
            return lambda: self._picture(index, self._data(item, name))
        data = self._data(item, name)
        own = data.copy() if isinstance(data, np.ndarray) and self._own and is_of_numbers(item.image) else data
        return lambda: self._picture(index, own)

    def _picture(self, index: int, data: bytes | np.ndarray | None, *, is_file: bool = False) -> Picture:
        """A picture of what an item has given.

        Raises:
            UserError: it is another one than at first.
        """
        name, label = self.describe(index)
        if data is None or not (is_file or self._survey.extents[index, 1] in (-1, _extent(data)[1])):
            raise self._another(name)
        return Picture(name, label, data)

    def file(self, index: int) -> Path | None:
        return self._survey.files.get(index)

    def extent(self, index: int) -> tuple[int, int]:
        size, checksum = self._survey.extents[index].tolist()
        return size, checksum

    @property
    def root(self) -> Path | None:
        """The folder of a data set that is torchvision's ImageFolder, whole."""
        roots = set() if self.files_below is None or not self._whole else set(self.files_below.roots)
        return Path(roots.pop()).expanduser().absolute() if len(roots) == 1 else None

    @property
    def channels(self) -> set[int]:
        """How many channels the images have that are arrays or tensors."""
        return self._survey.channels

    def _look_over(self, files: Files | None) -> None:
        survey, without_label = self._survey, list[str]()
        for index in range(len(self._images)):
            name = f"images[{index}]" if files is None else files.name(index)
            item, data, reason = Item(None), None, ""
            try:
                item = Item(*files.samples[index]) if files else self._item(index)
                data = self._data(item, name)
            except (OSError, Unreadable) as error:  # of an item that is there the label is known
                reason = survey.problems[index] = reason_of(error)
            survey.labels.append(item.label)
            file = file_of(item.image)
            survey.names.append(item.name or (str(item.image) if file is not None and files is None else name))
            if file is not None:
                survey.files[index] = file
            elif data is not None:
                survey.extents[index] = _extent(data)
                self._check_values(data, name)
            if reason and item.label is None:
                without_label.append(f"{survey.names[index]}: {reason}")
        if len(survey.problems) == len(self._images):
            index, reason = next(iter(survey.problems.items()))
            raise UserError(
                f"{self.title}: no image of {len(self):,} can be read; {survey.names[index]}: {reason}", allowed=ALLOWED
            )
        if without_label and any(label is not None for label in survey.labels):
            count = counted(len(without_label), "image")
            self.scan_report.note(f"{count} cannot be read, and so without a label: {without_label[0]}")

    def _read_again(self) -> None:
        """Some of the items, of code of somebody's: one that is another image now is refused (see `__getitem__`)."""
        in_hand = np.flatnonzero(self._survey.extents[:, 1] >= 0).tolist()
        for index in in_hand[:: max(1, len(in_hand) // REPEATED)]:
            self[index]

    def _item(self, index: int) -> Item:
        """An item as the data set gives it.

        Raises:
            Unreadable: whatever the data set raises.
        """
        with _as_unreadable():
            if not self._own:
                return parted(self._images[index])
            with self._lock:
                return parted(self._images[index])

    def _data(self, item: Item, name: str) -> bytes | np.ndarray | None:
        """What a source gives of an item; None: it is a file."""
        with _as_unreadable():
            try:
                return None if file_of(item.image) is not None else stored(item.image, name)
            except UserError as views:
                views.next = self._without_transform()
                raise

    def _check_values(self, data: bytes | np.ndarray, name: str) -> None:
        """Refuse what a transform has normalised: nobody says which of its values are black and white."""
        if not isinstance(data, np.ndarray):
            return
        self._survey.channels.add(data.shape[2] if data.ndim == 3 else 1)
        if self._ranged or data.dtype.kind != "f" or not data.min() < 0:
            return
        raise UserError(
            f"{self.title}: {name} has values from {data.min():.3g} to {data.max():.3g}: it is normalised already",
            allowed=f"{AS_THEY_ARE}; floats of 0 to 1; of measured values their range, overrides={{'data.range': ...}}",
            next=self._without_transform(),
        )

    def _without_transform(self) -> str:
        """How the data set is rid of its transform."""
        return WITHOUT_FORMAT if hasattr(innermost(self._images), "reset_format") else WITHOUT_TRANSFORM

    def _another(self, name: str) -> UserError:
        return UserError(
            f"{self.title}: {name} is another image each time it is read, as by a random transform",
            allowed=AS_THEY_ARE,
            next=self._without_transform(),
        )

    def _number(self, values: Sequence[Any], classes: Sequence[str]) -> None:
        if len(values) != len(self):
            raise UserError(
                f"{counted(len(self), 'image')} and {counted(len(values), 'label')}", allowed="a label for each image"
            )
        labels = self._numbered(values, classes)
        self._labels, self.class_names = labels.numbers, labels.class_names
        for note in labels.notes:
            self.scan_report.note(note)

    def _numbered(self, values: Sequence[Any], classes: Sequence[str]) -> Labels:
        what = f"the label of {self.title}"
        own = class_names_of(self._images)
        if all(value is None for value in values):
            return Labels(np.full(len(values), -1, np.int64), [])
        if own or all(isinstance(value, int | np.integer | None) for value in values):
            return number_labels(values, what, names=own or classes)
        return number_labels(values, what, training_classes=classes or None)


@contextmanager
def _as_unreadable() -> Iterator[None]:
    """What code of somebody's raises is an image that cannot be read, with file and line of that code."""
    try:
        with exits_are_errors():
            yield
    except (UserError, Unreadable):
        raise
    except Exception as error:
        if isinstance(error, OSError) and place(error) is None:  # a file that we read
            raise
        raise Unreadable(reason_and_place(error)) from error


def title_of(images: Any) -> str:
    """What to call images: by the class of a data set, else `images`."""
    inner = innermost(images)
    if isinstance(inner, Rows):
        return inner.title
    return "images" if isinstance(inner, list | tuple | np.ndarray) or is_tensor(inner) else type(inner).__name__


def _extent(data: bytes | np.ndarray) -> tuple[int, int]:
    """Bytes and checksum of what a source gives."""
    return (len(data), zlib.crc32(data)) if isinstance(data, bytes) else (data.nbytes, zlib.crc32(data.data))
