"""Where files are to be written: refused before anything is computed, and never at the cost of a result. A leaf."""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from barlowctl import shell
from barlowctl.amounts import counted, megabytes
from barlowctl.errors import UserError, one_line
from barlowctl.files import folder_made

NEXT = {
    "OUT": "name another place as OUT",
    "--out": "name another place with --out",
    "--map": "name another place with --map",
    "--neighbours-out": "name another place with --neighbours-out",
    "--patches": "name another place with --patches",
    "--trace": "name another place with --trace",
}

_FULL = {number: os.strerror(number) for number in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))}
"""What the system says of a full disk, and of a person's share of it that is used up."""

_ON_A_FULL_DISK = re.compile(f"'(.*)' cannot be written: ((?:{'|'.join(map(re.escape, _FULL.values()))}).*)")
OTHERS = 3
"""Files beside the first that a message of a full disk names."""

_PLACES = ("run", "folder", "path", "files")
"""Keys of a result that hold names of files and folders."""


def whole(values: Mapping[str, Any]) -> dict[str, Any]:
    """A result as a file keeps it: files and folders with their whole paths, at any depth.

    What is printed names them as they were typed; a file is read later and from elsewhere. A run that was moved since
    is where it was found, and not where its own files say that it lay when they were written.
    """
    return {key: _whole(value, key in _PLACES) for key, value in values.items()}


def _whole(value: Any, place: bool) -> Any:
    if isinstance(value, Mapping):
        return whole(value)
    if isinstance(value, (list, tuple)):
        return [_whole(item, place) for item in value]
    return os.path.abspath(value) if place and isinstance(value, (str, Path)) else value


def check_file(path: Path, flag: str = "--out") -> None:
    """Refuse a file that could not be written in the end; nothing is made.

    Raises:
        UserError: it is a folder, or `check_folder` refuses the folder it is to be in.
    """
    if os.path.isdir(path):
        raise UserError(f"'{path}' cannot be written: it is a folder", allowed="a file's name", next=NEXT[flag])
    check_folder(path.parent, flag, named=path)


def check_new(path: Path, flag: str = "--out") -> None:
    """As `check_file`; a file that is there already is refused too.

    Raises:
        UserError: see `check_file`, or it exists: what is there may be of other images, or of another network.
    """
    check_file(path, flag)
    if os.path.lexists(path):
        raise UserError(f"'{path}' exists and is not overwritten", next=shell.line(flag, free(path)))


def free(path: Path) -> Path:
    """A name beside `path` that nothing has: `a-2.safetensors` for `a.safetensors`."""
    number = 2
    stem, suffix = (path.name, "") if path.is_dir() else (path.stem, path.suffix)
    while os.path.lexists(candidate := path.with_name(f"{stem}-{number}{suffix}")):
        number += 1
    return candidate


def check_folder(folder: Path, flag: str = "--out", *, named: Path | None = None) -> None:
    """Refuse a folder that cannot be made, or in which nothing can be made; nothing is made.

    Args:
        named: what a person named, if that is something in the folder.

    Raises:
        UserError: there is a file in its place, or above it, or no permission, or the file system is read-only.
    """
    named = named or folder
    try:
        existing = _nearest(folder.absolute())
        if not os.path.isdir(existing):
            raise UserError(f"'{named}' cannot be written: '{existing}' is no folder", next=NEXT[flag])
        if not os.access(existing, os.W_OK | os.X_OK):
            read_only = os.statvfs(existing).f_flag & os.ST_RDONLY
            why = "its file system is read-only" if read_only else "there is no permission to write there"
            raise UserError(f"'{named}' cannot be written: '{existing}': {why}", next=NEXT[flag])
    except OSError as error:  # a name too long, a folder that may not be looked into
        raise UserError(f"'{named}' cannot be written: {error.strerror}", next=NEXT[flag]) from error


def free_bytes(folder: Path) -> int:
    """Room on the disk of a folder, which need not be there yet."""
    return shutil.disk_usage(_nearest(folder.absolute())).free


def is_full(error: OSError) -> bool:
    """Whether a disk, or a person's share of it, has no room left."""
    return error.errno in _FULL


def why_not_written(error: Exception, folder: Path, *, needed: int | None = None) -> str:
    """Why something could not be written in a folder; of a full disk also the room that there is.

    Args:
        error: an OSError, or safetensors' own, whose text has the system's.
        needed: bytes that it takes at least, where they are known.
    """
    if isinstance(error, OSError) and error.strerror:
        reason = _FULL.get(error.errno or 0, error.strerror)  # pyarrow has its own words, and the system's number
    else:
        of_system = re.search(r"I/O error: (.*) \(os error \d+\)", str(error))
        reason = of_system[1] if of_system else one_line(error)
    if reason not in _FULL.values():
        return reason
    takes = "" if needed is None else f"it takes {megabytes(needed)} or more, and "
    with suppress(OSError):
        reason = f"{reason}: {takes}there is room for {megabytes(free_bytes(folder))} in '{folder}'"
    return reason


def _nearest(path: Path) -> Path:
    """The path, else the nearest folder (or file) above it that exists."""
    while True:
        try:
            os.lstat(path)
        except (FileNotFoundError, NotADirectoryError):
            path = path.parent
        else:
            return path


@dataclass
class Outputs:
    """The files of a result. What cannot be written is reported after the result, not instead of it.

    files: that were written. problems: what went wrong, a line each. flags: the options that name their places.
    """

    files: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    flags: list[str] = field(default_factory=list)

    @contextmanager
    def writing(self, *paths: Path, flag: str = "--out") -> Iterator[None]:
        """Write these files in the block, in a folder that is made, and gone again where nothing came to be in it.

        Args:
            flag: the option that names their place.
        """
        try:
            with folder_made(paths[0].parent):
                yield
        except Exception as error:
            if not isinstance(error, OSError | UserError) and type(error).__name__ != "SafetensorError":
                raise
            self.problems.append(one_line(error) if isinstance(error, UserError) else self._problem(error, paths[0]))
            self.flags.append(flag)
        else:
            self.files += [str(path) for path in paths]

    def _problem(self, error: Exception, path: Path) -> str:
        """What went wrong with a file; the room on a full disk is said once."""
        start, why = f"'{path}' cannot be written", why_not_written(error, path.parent)
        reason = why.partition(": ")[0]
        has_room = any(f" cannot be written: {reason}: " in problem for problem in self.problems)
        return f"{start}: {reason if has_room else why}"

    def check(self) -> None:
        """Raise a `UserError` if something could not be written, with the option of the first."""
        if self.problems:
            raise UserError("; ".join(_joined(self.problems)), next=NEXT[next(iter(self.flags), "--out")])


def _joined(problems: list[str]) -> list[str]:
    """The problems of `Outputs`, those of a full disk as one with the names of the files."""
    full = {problem: match for problem in problems if (match := _ON_A_FULL_DISK.fullmatch(problem))}
    if len(full) < 2:
        return problems
    paths = [match[1] for match in full.values()]
    room = next((match[2] for match in full.values() if "there is room" in match[2]), next(iter(full.values()))[2])
    more = ", ..." if len(paths) > 1 + OTHERS else ""
    others = ", ".join(os.path.basename(path) for path in paths[1 : 1 + OTHERS]) + more
    one = f"'{paths[0]}' and {counted(len(paths) - 1, 'more file')} cannot be written ({others}): {room}"
    return [one, *(problem for problem in problems if problem not in full)]
