"""The files of a sharded data set: none of them twice."""

from __future__ import annotations

import filecmp
import re
from collections.abc import Iterable
from pathlib import Path

from barlowctl.data.account import Account
from barlowctl.data.scan import READ_ALREADY

COPIES = "copies of a file that is read"
_COPY = re.compile(r"\s*\(\d+\)|[\s_-]+copy(?:[\s_-]*\(?\d+\)?)?", re.IGNORECASE)  # at the end of a name
_COPY_OF = re.compile(r"copy(?: \(?\d+\)?)? of ", re.IGNORECASE)


def distinct(files: Iterable[Path], account: Account) -> list[Path]:
    """The files without links to one another and without copies, which are counted.

    A copy is named as file managers do ("train-0 (1).tar", "train-0 copy.tar") and has its original's bytes; shards
    that are alike under names of their own are read.
    """
    files, found = list(files), []
    there, seen = {file.name: file for file in files}, set()
    for file in files:
        about = file.stat()
        original = there.get(_original(file))
        if (about.st_dev, about.st_ino) in seen:
            account.pass_over(READ_ALREADY, file.name)
        elif original and original != file and filecmp.cmp(file, original, shallow=False):
            account.pass_over(COPIES, file.name)
        else:
            found.append(file)
        seen.add((about.st_dev, about.st_ino))
    return found


def _original(file: Path) -> str:
    """The name that a copy's says its original has; its own where it says none."""
    stem = _COPY_OF.sub("", file.stem, count=1) if _COPY_OF.match(file.stem) else file.stem
    ends = [match for match in _COPY.finditer(stem) if match.end() == len(stem)]
    return (stem[: ends[-1].start()] if ends else stem) + file.suffix
