"""Labels as people write them, made into class numbers: numbers, words, booleans, and what is no class at all.

Numbers are the classes' positions; other values are words, and classes their sorted list, that of the training split
for every split. What cannot be a class is said, never dropped in silence.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from barlowctl.amounts import counted
from barlowctl.data.names import written
from barlowctl.errors import UserError

MAX_CLASSES = 1_000_000
"""Of labels that are numbers: every class from 0 to the largest gets a name in memory and in the packed file."""

LABEL_NAMES = (
    "label", "labels", "class", "classes", "target", "targets", "category", "class_name", "classname", "label_name",
    "class_label", "category_name", "class_id", "class_idx", "classid", "label_id", "label_idx", "category_id", "cls",
    "fine_label", "fine_labels", "y",
)  # fmt: skip
"""What a column or a key of labels is called, best first, in small letters."""

LONGEST_NUMBER = 100  # digits, far more than a class number has: `int` refuses thousands of them
LONGEST_WORD = 200
"""Of a label, in characters: longer text is a caption."""

_NUMBER = re.compile(r"[+-]?\d+(\.0*)?")
_FRACTION = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_DECIMAL_COMMA = re.compile(r"[+-]?\d*,\d+")
_NONE = ("", "nan", "null", "<na>")


@dataclass(frozen=True)
class Labels:
    """Class numbers of images.

    numbers: `(n,)` int64, -1 for none.    class_names: of 0, 1, ...; empty where no image has a class.
    notes: what was made of the labels where it is not plain, for people.    files: how many files of which ending
    beside images they were read from.
    """

    numbers: np.ndarray
    class_names: list[str]
    notes: tuple[str, ...] = ()
    files: tuple[str, int] = ("", 0)


class Codebook:
    """Distinct label values and how often each occurs: what classes are told from, whatever the number of images."""

    def __init__(self) -> None:
        self._codes: dict[Any, int] = {}
        self.counts: list[int] = []

    def code(self, value: object, times: int = 1) -> int:
        """The number of a value, met so many times, in the order of first appearance; equal values have one."""
        key = _plain(value)
        code = self._codes.setdefault(key, len(self._codes))
        if code == len(self.counts):
            self.counts.append(0)
        self.counts[code] += times
        return code

    @property
    def values(self) -> list[Any]:
        """The distinct values by code: None, int, float, str, or a tuple (a list: several labels)."""
        return [key[1] for key in self._codes]


def classes_of_columns(values: np.ndarray) -> list[int] | None:
    """Of `(n, classes)` with a single 1 in each row its position; None: they are no such columns."""
    if values.ndim != 2 or values.shape[1] < 2 or values.dtype.kind not in "buif":
        return None
    single = bool(((values == 0) | (values == 1)).all() and (values.sum(1) == 1).all())
    return values.argmax(1).tolist() if single else None


def number_labels(
    values: Sequence[object], what: str, *, training_classes: Sequence[str] | None = None, names: Sequence[str] = ()
) -> Labels:
    """Class numbers of label values, one an image (see `settle`)."""
    book = Codebook()
    codes = np.fromiter((book.code(value) for value in values), dtype=np.int64, count=len(values))
    settled = settle(book, what, training_classes=training_classes, names=names)
    return Labels(settled.numbers[codes] if len(codes) else codes, settled.class_names, settled.notes)


def settle(
    book: Codebook, what: str, *, training_classes: Sequence[str] | None = None, names: Sequence[str] = ()
) -> Labels:
    """What each distinct value is: `numbers` has one an entry of the book.

    Whole numbers, also as text and as floats, are class numbers; booleans are false and true; -1, null and empty text
    are no label; words are positions in their sorted list, or in `training_classes`. Numbers with fractions, lists of
    several labels and long texts are no classes.

    Args:
        what: the labels in words ("x.parquet: column 'label'").
        training_classes: the class names of the training split: a class that is not among them is refused.
        names: of classes 0, 1, ..., where the file has them.

    Raises:
        UserError: a class number that is too large, or a class that the training split lacks.
    """
    values = [_missing(value) for value in book.values]
    notes = []
    several = sum(count for value, count in zip(values, book.counts, strict=True) if isinstance(value, tuple))
    if several:
        return _unusable(book, f"{what} holds several labels an image ({several:,} of them): not used as classes")
    present = [value for value in values if value is not None]
    if not present:
        return Labels(np.full(len(values), -1, dtype=np.int64), list(names))
    numbers = [_as_number(value) for value in values]
    counted = training_classes is None or are_numbers(training_classes)
    if counted and all(number is not None for number, value in zip(numbers, values, strict=True) if value is not None):
        if any(isinstance(number, float) for number in numbers):
            example = next(number for number in numbers if isinstance(number, float))
            return _unusable(
                book, f"{what} holds numbers with fractions ({example:g}), targets of a regression: not used as classes"
            )
        whole = [None if number is None else int(number) for number in numbers]
        if min(number for number in whole if number is not None) >= -1:
            return _numbered(book, whole, what, training_classes if training_classes is not None else names)
        values = whole  # numbers below -1: names like others
        notes.append(f"{what} holds negative numbers: the classes are its distinct numbers in order")
    longest = max((len(value) for value in values if isinstance(value, str)), default=0)
    if longest > LONGEST_WORD or any(isinstance(value, str) and "\n" in value for value in values):
        return _unusable(book, f"{what} holds long texts: not used as classes")
    return _worded(book, values, what, training_classes if training_classes is not None else names or None, notes)


def among(labels: Labels, training_classes: Sequence[str] | None, what: str) -> Labels:
    """Labels as positions among the training split's classes; unchanged where these are None.

    Raises:
        UserError: a class that is not among them.
    """
    if training_classes is None:
        return labels
    positions = {name: position for position, name in enumerate(training_classes)}
    lacking = [name for name in labels.class_names if name not in positions]
    if lacking:
        raise _unknown(what, lacking[0], len(training_classes))
    numbers = np.array([*(positions[name] for name in labels.class_names), -1], dtype=np.int64)
    return replace(labels, numbers=numbers[labels.numbers], class_names=list(training_classes))


def are_numbers(class_names: Sequence[str]) -> bool:
    """Whether classes have no other names than their numbers."""
    return all(name == str(number) for number, name in enumerate(class_names))


def numbered_classes(largest: int, where: str) -> list[str]:
    """Names of the classes 0 to `largest`, which are their numbers.

    Raises:
        UserError: more than `MAX_CLASSES`; `where` says which label it was.
    """
    if largest >= MAX_CLASSES:
        raise UserError(
            f"{where} has the class number {str(largest)[:40]}",
            allowed=f"0 to {MAX_CLASSES - 1:,}",
            next="number the classes 0, 1, 2, ...",
        )
    return [str(i) for i in range(largest + 1)]


def label_in(record: object) -> tuple[str, object] | None:
    """The key and value of the label in a JSON record ({"label": 3}), None where it has none."""
    if not isinstance(record, dict):
        return None
    keys = {str(key).lower(): key for key in reversed(record)}
    key = label_name(list(keys))
    return None if key is None else (str(keys[key]), record[keys[key]])


def label_name(names: Sequence[str]) -> str | None:
    """Which of several columns or keys holds labels, by its name in whatever case; None: none does."""
    lowered = {name.lower(): name for name in reversed(names)}
    return next((lowered[name] for name in LABEL_NAMES if name in lowered), None)


def _unusable(book: Codebook, note: str) -> Labels:
    return Labels(np.full(len(book.counts), -1, dtype=np.int64), [], (note,))


def _numbered(book: Codebook, numbers: Sequence[int | None], what: str, names: Sequence[str]) -> Labels:
    array = np.array([-1 if number is None else min(number, MAX_CLASSES) for number in numbers], dtype=np.int64)
    largest = max(number for number in numbers if number is not None)
    class_names = list(names)
    if largest >= len(names):
        class_names += numbered_classes(largest, what)[len(names) :]
    minus = sum(count for number, count in zip(numbers, book.counts, strict=True) if number == -1)
    notes = [f"{what} is -1 for {counted(minus, 'image')}: taken for no label"] if minus and largest >= 0 else []
    return Labels(array, class_names if largest >= 0 or names else [], tuple(notes))


def _worded(
    book: Codebook, values: Sequence[Any], what: str, training_classes: Sequence[str] | None, notes: Sequence[str]
) -> Labels:
    words = [None if value is None else written(_word(value)) for value in values]
    present = [(isinstance(value, str), value, word) for value, word in zip(values, words, strict=True) if word]
    ordered = [word for *_, word in sorted(present)]
    class_names = list(training_classes) if training_classes is not None else list(dict.fromkeys(ordered))
    if len(class_names) > MAX_CLASSES:
        raise UserError(f"{what} has {len(class_names):,} classes", allowed=f"at most {MAX_CLASSES:,}")
    positions = {name: position for position, name in enumerate(class_names)}
    for word in ordered:
        if word not in positions:
            raise _unknown(what, word, len(class_names))
    numbers = [-1 if word is None else positions[word] for word in words]
    count = sum(book.counts[at] for at, word in enumerate(words) if word is not None)
    if training_classes is None and count == len(set(ordered)) >= 10:
        notes = [*notes, f"{what} is another one for each of {count:,} images: are they classes?"]
    return Labels(np.array(numbers, dtype=np.int64), class_names, tuple(notes))


def _unknown(what: str, name: str, classes: int) -> UserError:
    return UserError(
        f"{what} has the class '{name[:40]}', which the training set lacks",
        allowed=f"its {classes} classes",
        next="give the split the classes of the training set, or pack it from a folder of its own",
    )


def _word(value: object) -> str:
    return {True: "true", False: "false"}[value] if isinstance(value, bool) else str(value)


def _plain(value: object) -> tuple[str, Any]:
    """A value that can be a key, with its type: True and 1 are different labels."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, bytes):
        value = value.decode("utf-8", "surrogateescape")
    if isinstance(value, list | tuple | np.ndarray):
        parts = list(value)
        return _plain(parts[0]) if len(parts) == 1 else ("several" if parts else "none", tuple(map(str, parts)) or None)
    if isinstance(value, str):
        return "str", value.strip()
    if value is None or isinstance(value, bool | int | float):
        return type(value).__name__, value
    if isinstance(value, dict):
        return "several", (json.dumps(value, sort_keys=True, default=str),)
    return "str", str(value)


def _missing(value: Any) -> Any:
    if isinstance(value, float) and math.isnan(value):
        return None
    return None if isinstance(value, str) and value.lower() in _NONE else value


def _as_number(value: Any) -> int | float | None:
    """An int, a float with a fraction, or None where the value is no number."""
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, str):
        if _NUMBER.fullmatch(value):
            return int(value.partition(".")[0][:LONGEST_NUMBER])
        value = value.replace(",", ".") if _DECIMAL_COMMA.fullmatch(value) else value
        if not _FRACTION.fullmatch(value):
            return None
        value = float(value)
    if isinstance(value, float):
        return int(value) if value.is_integer() else value
    return value if isinstance(value, int) else None
