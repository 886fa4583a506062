"""The files of a sharded data set: none of them twice."""

from __future__ import annotations

import filecmp
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from barlowctl.data.labels.numbering import Labels, among
from barlowctl.data.names import written
from barlowctl.data.tree.scan import READ_ALREADY
from barlowctl.data.tree.scan_report import ScanReport
from barlowctl.data.tree.splits import is_filler, split_in, words_of

COPIES = "copies of a file that is read"
_COPY = re.compile(r"\s*\(\d+\)|[\s_-]+copy(?:[\s_-]*\(?\d+\)?)?", re.IGNORECASE)  # at the end of a name
_COPY_OF = re.compile(r"copy(?: \(?\d+\)?)? of ", re.IGNORECASE)

NO_CLASSES = (
    "the files are taken for shards of one pile, none for a class; "
    "where each holds a class, unpack each into a folder called after it"
)
_OF_SHARDS = {"shard", "shards", "chunk", "chunks", "batch", "block", "tar", "wds"}
_SYNSET = re.compile(r"n\d{8}")
_WORD = re.compile(r"([^\W\d_]{2,}|[^\W\d_a-zA-Z])\d*")


def labels_of_files(
    files: Sequence[Path], training_classes: Sequence[str] | None, firsts: Sequence[str] = ()
) -> Labels:
    """The class of each file, where files are classes (`classes_of_files`) that the training split has, and a note."""
    classes, numbers = classes_of_files(files, firsts, at_least=2 if training_classes is None else 1)
    if not classes or (training_classes is not None and not set(classes) <= set(training_classes)):
        return Labels(np.full(len(files), -1, dtype=np.int64), [], (NO_CLASSES,) if len(files) > 1 else ())
    listed = ", ".join(classes[:3]) + (", ..." if len(classes) > 3 else "")
    note = f"classes are the files, by their names ({listed})"
    return among(Labels(np.array(numbers, dtype=np.int64), classes, (note,)), training_classes, str(files[0].parent))


def classes_of_files(
    files: Sequence[Path], firsts: Sequence[str] = (), at_least: int = 2
) -> tuple[list[str], list[int]]:
    """(class names, the class of each file) where files are classes ("cat.tar", "n01440764.tar"), else ([], []).

    They are where each file's name is the beginning of its images' names or a synset of WordNet; or where every name
    has words, and not all have the same: "cat-0.tar", "cat-1.tar" and "dog-0.tar" are two classes. Numbers, words that
    say no more than that images are there, and splits do not count as words.

    Args:
        firsts: the name of an image in each file. at_least: so many classes.
    """
    stems = [file.stem for file in files]
    begins = firsts and all(_begins(stem, name) for stem, name in zip(stems, firsts, strict=True))
    as_they_are = begins or all(_SYNSET.fullmatch(stem) for stem in stems)
    roots = [stem if as_they_are else _root(stem) for stem in stems]
    if not all(roots) or len(set(roots)) < at_least:
        return [], []
    names = [written(root) for root in roots]
    classes = sorted(set(names))
    return classes, [classes.index(name) for name in names]


def _begins(stem: str, name: str) -> bool:
    base = name.rpartition("/")[2]
    after = base[len(stem) :][:1]
    return base.startswith(stem) and after in ("_", "-", " ") and not stem.isdigit() and not _says_nothing(stem)


def _root(stem: str) -> str:
    """Its words without numbers behind them; parts that mix both otherwise are hashes, or say nothing."""
    parts = re.split(r"[\W_]+", stem)
    words = [match[1] for part in parts if (match := _WORD.fullmatch(part))]
    telling = [word for word in words if not _says_nothing(word)]
    return stem if telling == parts else "_".join(telling)


def _says_nothing(name: str) -> bool:
    """Whether a word says but that there are images, shards or a split."""
    return is_filler(name) or split_in(name) is not None or not _OF_SHARDS.isdisjoint(words_of(name))


def distinct(files: Iterable[Path], report: ScanReport) -> list[Path]:
    """The files without links to one another and without copies, which are counted.

    A copy is named as file managers do ("train-0 (1).tar", "train-0 copy.tar") and has its original's bytes; shards
    that are alike under names of their own are read.
    """
    files, unique = list(files), []
    there, seen = {file.name: file for file in files}, set()
    for file in files:
        about = file.stat()
        original = there.get(_original(file))
        if (about.st_dev, about.st_ino) in seen:
            report.skip(READ_ALREADY, file.name)
        elif original and original != file and filecmp.cmp(file, original, shallow=False):
            report.skip(COPIES, file.name)
        else:
            unique.append(file)
        seen.add((about.st_dev, about.st_ino))
    return unique


def _original(file: Path) -> str:
    """The name that a copy's says its original has; its own where it says none."""
    stem = _COPY_OF.sub("", file.stem, count=1) if _COPY_OF.match(file.stem) else file.stem
    ends = [match for match in _COPY.finditer(stem) if match.end() == len(stem)]
    return (stem[: ends[-1].start()] if ends else stem) + file.suffix
