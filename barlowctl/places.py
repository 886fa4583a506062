"""Where files are to be written: refused before anything is computed, and never at the cost of a result. A leaf."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from barlowctl import shell
from barlowctl.errors import UserError, one_line

NEXT = {
    "OUT": "name another place as OUT",
    "--out": "name another place with --out",
    "--map": "name another place with --map",
    "--neighbours-out": "name another place with --neighbours-out",
}


def check_file(path: Path, flag: str = "--out") -> None:
    """Refuse a file that could not be written in the end; nothing is made.

    Raises:
        UserError: it is a folder, or `check_folder` refuses the folder it is to be in.
    """
    if os.path.isdir(path):
        raise UserError(f"'{path}' cannot be written: it is a folder", allowed="a file's name", next=NEXT[flag])
    check_folder(path.parent, flag, asked=path)


def check_new(path: Path) -> None:
    """As `check_file`; a file that is there already is refused too.

    Raises:
        UserError: see `check_file`, or it exists: what is there may be of other images, or of another network.
    """
    check_file(path)
    if os.path.lexists(path):
        raise UserError(f"'{path}' exists and is not overwritten", next=shell.line("--out", free(path)))


def free(path: Path) -> Path:
    """A name beside `path` that nothing has: `a-2.safetensors` for `a.safetensors`."""
    number = 2
    stem, suffix = (path.name, "") if path.is_dir() else (path.stem, path.suffix)
    while os.path.lexists(found := path.with_name(f"{stem}-{number}{suffix}")):
        number += 1
    return found


def check_folder(folder: Path, flag: str = "--out", *, asked: Path | None = None) -> None:
    """Refuse a folder that cannot be made, or in which nothing can be made; nothing is made.

    Args:
        asked: what a person named, if that is something in the folder.

    Raises:
        UserError: there is a file in its place, or above it, or no permission, or the file system is read-only.
    """
    asked = asked or folder
    try:
        place = _nearest(folder.absolute())
        if not os.path.isdir(place):
            raise UserError(f"'{asked}' cannot be written: '{place}' is no folder", next=NEXT[flag])
        if not os.access(place, os.W_OK | os.X_OK):
            read_only = os.statvfs(place).f_flag & os.ST_RDONLY
            why = "its file system is read-only" if read_only else "there is no permission to write there"
            raise UserError(f"'{asked}' cannot be written: '{place}': {why}", next=NEXT[flag])
    except OSError as error:  # a name too long, a folder that may not be looked into
        raise UserError(f"'{asked}' cannot be written: {error.strerror}", next=NEXT[flag]) from error


def free_bytes(place: Path) -> int:
    """Room on the disk of a folder, which need not be there yet."""
    return shutil.disk_usage(_nearest(place.absolute())).free


def _nearest(place: Path) -> Path:
    """The folder, else the nearest thing above it that is there."""
    while True:
        try:
            os.lstat(place)
        except (FileNotFoundError, NotADirectoryError):
            place = place.parent
        else:
            return place


@dataclass
class Outputs:
    """The files of a result. What cannot be written is told after the result, not instead of it.

    files: that were written. problems: what went wrong, a line each.
    """

    files: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @contextmanager
    def writing(self, *paths: Path) -> Iterator[None]:
        """Write these files in the block."""
        try:
            yield
        except Exception as error:
            if not isinstance(error, OSError | UserError) and type(error).__name__ != "SafetensorError":
                raise
            reason = error.strerror if isinstance(error, OSError) and error.strerror else one_line(error)
            named = "" if isinstance(error, UserError) else f"'{paths[0]}' cannot be written: "
            self.problems.append(f"{named}{reason}")
        else:
            self.files += [str(path) for path in paths]

    def check(self, flag: str = "--out") -> None:
        """Raise a `UserError` if something could not be written; after the result was shown."""
        if self.problems:
            raise UserError("; ".join(self.problems), next=NEXT[flag])
