"""Atomic writes: a file or a folder appears whole, or not at all. A leaf."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PARTIAL = ".partial-"
"""How the name begins of what is being written; a process that is killed meanwhile leaves it behind."""

_NO_FLUSH_OF_FOLDERS = (errno.EINVAL, errno.ENOTSUP, errno.EBADF)  # on some network file systems
_NO_ROOM = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC), errno.EFBIG)


@contextmanager
def atomic_write(path: Path, *, new: bool = False, durable: bool = True) -> Iterator[Path]:
    """Write a file or a folder in the block, under the temporary name that is yielded; then it gets the name `path`.

    Until then, what was at `path` is as it was; if the block fails, that stays and nothing is left beside it. The
    temporary name is in the same folder, which must exist, and has the same ending, since some writers go by it. A
    link is replaced, and what it points to is left alone. A pipe or a device is written to directly. Who may read it
    is what this process's umask says, whatever the writer made of it (safetensors 0.8: the owner alone).

    Args:
        new: replace nothing.
        durable: flush to the disk before the renaming: a machine that loses its power has the old or the new.

    Raises:
        OSError: it cannot be written; the error names `path`.
        FileExistsError: `new`, and there is something at `path`.
    """
    if _is_pipe_or_device(path):
        yield path
        return
    temporary = _beside(path)
    try:
        yield temporary
        _readable_as_usual(temporary)
        if durable:
            _flush_all(temporary)
        _rename(temporary, path, new)
        if durable:
            _flush(path.parent)
    except OSError as error:
        inside = _written_to(error, temporary)
        if error.errno is None or not inside.startswith(str(temporary)):
            raise
        named = str(path) + inside[len(str(temporary)) :]
        raise OSError(error.errno, error.strerror, named) from error
    finally:
        remove(temporary)


def _written_to(error: OSError, temporary: Path) -> str:
    """Which file an error is of. A full disk names none; copying names what is read, too, and that first."""
    copying = error.filename2 is not None and error.errno in _NO_ROOM
    name = error.filename2 if copying else error.filename
    return str(temporary) if name is None else os.fsdecode(name)


@contextmanager
def folder_made(folder: Path) -> Iterator[None]:
    """Make a folder, and those above it, for the block; what was made here is gone again, if empty, where it fails.

    Raises:
        OSError: it cannot be made.
    """
    missing = [path for path in (folder, *folder.parents) if not os.path.lexists(path)]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException:
        with contextlib.suppress(OSError):  # what is not empty stays, and what it is in
            for path in missing:
                path.rmdir()
        raise


def write_bytes(path: Path, content: bytes, *, durable: bool = True) -> None:
    """Write a file atomically (see `atomic_write`)."""
    with atomic_write(path, durable=durable) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, text: str, *, errors: str = "strict", durable: bool = True) -> None:
    """Write a file in UTF-8 atomically. errors: what `str.encode` does about text that is not Unicode."""
    write_bytes(path, text.encode(errors=errors), durable=durable)


def put_in_place(temporary: Path, path: Path) -> None:
    """Flush a file to the disk and give it its name, for writers that have a temporary name of their own."""
    _flush(temporary)
    os.replace(temporary, path)
    _flush(path.parent)


def remove(path: Path) -> None:
    """Remove a file, a link, or a folder and what is in it, as far as that is possible."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink()


def remove_at_once(folder: Path) -> None:
    """Remove a folder such that a part of it is never left under its name.

    Raises:
        OSError: it cannot be renamed; it is as it was.
    """
    remove(put_aside(folder))


def put_aside(path: Path) -> Path:
    """Give a file or a folder the name of one that is being written, and return it: from now on nobody lists it.

    Raises:
        OSError: it cannot be renamed; it is as it was.
    """
    aside = _beside(path)
    os.rename(path, aside)
    return aside


def remove_partial(folder: Path) -> None:
    """Remove what killed processes left in a folder in which nobody else writes now."""
    for path in folder.iterdir():
        if path.name.startswith(PARTIAL):
            remove(path)


def _beside(path: Path) -> Path:
    """A temporary name; shortened, so that it is not too long where the name itself is not."""
    return path.with_name(f"{PARTIAL}{path.stem[:40]}-{secrets.token_hex(4)}{path.suffix[-15:]}")


def _rename(temporary: Path, path: Path, new: bool) -> None:
    if new and os.path.lexists(path):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
    if new or not (temporary.is_dir() and os.path.lexists(path)):
        os.replace(temporary, path)
        return
    aside = _beside(path)  # a folder cannot replace another one in one step
    os.rename(path, aside)
    try:
        os.rename(temporary, path)
    finally:
        if os.path.lexists(path):
            remove(aside)
        else:
            os.rename(aside, path)


def _is_pipe_or_device(path: Path) -> bool:
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def _readable_as_usual(path: Path) -> None:
    """Give a file, or all in a folder, that only its owner may read the mode of any file that is made here."""
    private, usual = stat.S_IRUSR | stat.S_IWUSR, 0o666 & ~_umask()
    for file in (path, *path.rglob("*")) if path.is_dir() else (path,):
        status = file.lstat()
        if usual != private and stat.S_ISREG(status.st_mode) and stat.S_IMODE(status.st_mode) == private:
            file.chmod(usual)


def _umask() -> int:
    """What is taken off the mode of new files. Only setting it tells it, so it is put back at once."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _flush_all(path: Path) -> None:
    """Flush a file, or a folder and all that is in it."""
    if path.is_dir():
        for folder, _, names in os.walk(path, topdown=False):
            for name in names:
                _flush(Path(folder, name))
            _flush(Path(folder))
    else:
        _flush(path)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if not (stat.S_ISDIR(os.fstat(descriptor).st_mode) and error.errno in _NO_FLUSH_OF_FOLDERS):
            raise
    finally:
        os.close(descriptor)


def written_as_path(text: str, endings: tuple[str, ...] = ()) -> bool:
    """Whether what may be a name or a path can only be a path: by a slash, a dot in front, or one of some endings."""
    return os.sep in text or text.startswith((".", "~")) or text.endswith(endings)
