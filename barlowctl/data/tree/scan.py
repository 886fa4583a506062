"""Which files a folder holds: what is an image, what is skipped and under which name, in which order.

Only regular files count, and folders that are not the system's; a link is followed once. Files with an image's ending
are taken as images without a look inside; of those whose ending says nothing, and of DICOM and FITS files, the first
bytes are read, and of FITS files and arrays whether there is a picture at all.
"""

from __future__ import annotations

import errno
import os
import stat
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import IO

from barlowctl.data.images import dicom_classes, formats, without_picture
from barlowctl.data.tree.regular import open_regular, read_head
from barlowctl.data.tree.scan_report import ScanReport

_SYSTEM_FOLDERS = {
    *("@eadir", "#recycle", "#snapshot", "@recycle", "@recently-snapshot", "@tmp", "@__thumb", ".@__thumb"),  # NAS
    *("$recycle.bin", "system volume information", "$extend", "found.000", "recycle bin", "msdownld.tmp"),  # Windows
    *("lost+found", ".snapshot", ".snapshots", ".thumbnails", ".cache"),  # Linux
    *("__macosx", ".spotlight-v100", ".fseventsd", ".documentrevisions-v100", ".temporaryitems", ".trashes"),  # macOS
    *("network trash folder", "temporary items", ".appledouble", ".appledb", ".appledesktop", ".picasaoriginals"),
    *("__pycache__", ".ipynb_checkpoints"),
}
_SYSTEM_FOLDERS_EXACTLY = {"RECYCLER", "RECYCLED"}  # Windows 98 to XP; "recycled" may be somebody's class
_SYSTEM_FILES = {"thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", ".ds_store", "icon\r", ".picasa.ini"}

SYSTEM_FOLDERS, SYSTEM_FILES = "system, waste and thumbnail folders", "system files"
HIDDEN_FOLDERS, HIDDEN_FILES = "hidden folders", "hidden files"
READ_ALREADY = "links to what is read already"


def system_or_hidden(name: str, *, folder: bool) -> str:
    """The kind of a folder's or file's name (without its folders) that is skipped for itself; "" for any other."""
    folded = name.casefold()
    if folder:
        trash = folded.startswith((".trash-", ".trash"))
        if trash or folded in _SYSTEM_FOLDERS or name in _SYSTEM_FOLDERS_EXACTLY:
            return SYSTEM_FOLDERS
        return HIDDEN_FOLDERS if name.startswith(".") else ""
    if folded in _SYSTEM_FILES or name.startswith("._"):
        return SYSTEM_FILES
    return HIDDEN_FILES if name.startswith(".") else ""


def inside_system_or_hidden(name: str) -> str:
    """As `system_or_hidden`, of a path with slashes: of its first part that is skipped."""
    *folders, base = name.split("/")
    for part in folders:
        if part not in ("", ".", "..") and (kind := system_or_hidden(part, folder=True)):
            return kind
    return system_or_hidden(base, folder=False)


def look_into(head: bytes | None, name: str, opened: Callable[[], IO[bytes] | None]) -> tuple[bool, str, str]:
    """(is it an image that can be read, else its kind, and what to do), from a file's name and first bytes.

    Args:
        head: None where they were not read, which is enough unless `formats.content_decides(name)`.
        opened: opens it, to look further inside. Raises OSError.
    """
    content = formats.by_ending(name)
    if head is not None:
        if content is None and not head:
            return False, "empty files", ""
        if content is not formats.FITS:  # compressed by gzip or not
            content = formats.by_content(head) or content
        if content is formats.DICOM and dicom_classes.without_picture(head):
            return False, dicom_classes.KIND, ""
    if content is None or content is formats.DOCUMENT:
        return False, formats.kind_of_other(name), ""
    if not formats.readable(content):
        return False, content.kind, formats.advice(content)
    if content is formats.FITS and holds_none(opened, without_picture.fits):
        return False, without_picture.FITS_KIND, ""
    return True, "", ""


def holds_none(opened: Callable[[], IO[bytes] | None], is_without: Callable[[IO[bytes]], bool]) -> bool:
    """Whether a file holds no picture; one that cannot be opened may."""
    with suppress(OSError, zlib.error, zipfile.BadZipFile):
        file = opened()
        if file is not None:
            with file:
                return is_without(file)
    return False


class Scan:
    """Looks at a folder and what is below it; what is no image goes to a report. No folder is read twice.

    Args:
        root: the folder that names begin in. also: files of this format, of arrays, are taken as images are.
    """

    def __init__(self, root: Path, report: ScanReport, *, also: formats.Format | None = None) -> None:
        self.root, self.scan_report, self.also = root, report, also
        self._seen: set[tuple[int, int]] = set()

    def images(self, inside: str = "", but: Collection[str] = ()) -> list[str]:
        """Images directly in a folder, sorted; what else lies there is reported, its folders and `but` apart."""
        return sorted(self._look(inside, inside, [], but))

    def walk(self, inside: str = "") -> list[str]:
        """Images at any depth below a folder, as paths below the root, sorted by their parts."""
        names: list[str] = []
        folders = [inside]
        while folders:
            folder = folders.pop()
            below: list[str] = []
            if self._is_new(folder):
                names += self._look(folder, inside, below)
            folders += sorted(below, reverse=True)
        return sorted(names, key=lambda name: name.split(os.sep))

    def _is_new(self, inside: str) -> bool:
        try:
            about = os.stat(self.root / inside)
        except OSError as error:
            self.scan_report.skip("folders that cannot be listed", f"{inside} ({error.strerror})")
            return False
        identity = about.st_dev, about.st_ino
        if identity in self._seen:
            self.scan_report.skip(READ_ALREADY, inside)
            return False
        self._seen.add(identity)
        return True

    def _look(self, inside: str, top: str, folders: list[str], but: Collection[str] = ()) -> list[str]:
        """Names of the images directly in a folder; its folders are appended to `folders`.

        top: links to what lies below this folder are not read a second time.
        """
        images, place, start = [], os.path.join(self.root, inside), os.path.join(inside, "") if inside else ""
        try:
            with os.scandir(place) as entries:
                for entry in entries:
                    if entry.name in but:
                        continue
                    name = start + entry.name
                    kind, advice = _kind(entry)
                    if self.also is not None and kind == self.also.kind:
                        numpy = self.also is formats.NUMPY
                        empty = numpy and holds_none(partial(open_regular, entry.path), without_picture.numpy)
                        kind, advice = (without_picture.NUMPY_KIND, "") if empty else (_IMAGE, "")
                    if kind in (_IMAGE, _FOLDER) and entry.is_symlink() and self._leads_back(entry, top):
                        kind = READ_ALREADY
                    if kind is _IMAGE:
                        images.append(name)
                    elif kind is _FOLDER:
                        folders.append(name)
                    else:
                        self.scan_report.skip(kind, name, next=advice)
        except OSError as error:
            if not inside:
                raise
            self.scan_report.skip("folders that cannot be listed", f"{inside} ({error.strerror})")
        return images

    def _leads_back(self, link: os.DirEntry[str], top: str) -> bool:
        return _leads_back(link, os.path.realpath(self.root / top))


def subfolders(path: Path) -> list[str]:
    """Names of the folders in a folder, sorted: not hidden or of the system, and no links to itself or above."""
    real = os.path.join(os.path.realpath(path), "")
    with os.scandir(path) as entries:
        return sorted(
            entry.name
            for entry in entries
            if _kind(entry)[0] is _FOLDER
            and not (entry.is_symlink() and real.startswith(os.path.join(os.path.realpath(entry.path), "")))
        )


def class_folders(path: Path) -> list[str]:
    """As `subfolders`, without links to what is read under its own name: one folder is not two classes."""
    real = os.path.realpath(path)
    with os.scandir(path) as entries:
        return sorted(
            entry.name
            for entry in entries
            if _kind(entry)[0] is _FOLDER and not (entry.is_symlink() and _leads_back(entry, real))
        )


def holds_images(folder: Path) -> bool:
    """Whether a folder directly holds an image file; one that cannot be listed holds none."""
    try:
        with os.scandir(folder) as entries:
            later = []
            for entry in entries:  # names first: they need no look inside
                if formats.content_decides(entry.name):
                    later.append(entry)
                elif _kind(entry)[0] is _IMAGE:
                    return True
            return any(_kind(entry)[0] is _IMAGE for entry in later)
    except OSError:
        return False


def has_images(path: Path) -> bool:
    """Whether a folder holds an image file at any depth."""
    return next(folders_of_images(path), None) is not None


def folders_of_images(path: Path) -> Iterator[Path]:
    """The folders that directly hold an image, from the top down."""
    pending, seen = [path] if path.is_dir() else [], set()
    while pending:
        following = []
        for folder in pending:
            try:
                about = os.stat(folder)
                if (about.st_dev, about.st_ino) in seen:
                    continue
                seen.add((about.st_dev, about.st_ino))
                if holds_images(folder):
                    yield folder
                following += [folder / name for name in subfolders(folder)]
            except OSError:
                continue
        pending = following


# ---- one entry of a folder -------------------------------------------------------------------------------

_IMAGE, _FOLDER = "image", "folder"


def _kind(entry: os.DirEntry[str]) -> tuple[str, str]:
    """(`_IMAGE`, `_FOLDER` or the kind of what is skipped, what to do about it)."""
    try:
        folder = entry.is_dir()
        if kind := system_or_hidden(entry.name, folder=folder):
            return kind, ""
        if folder:
            return _FOLDER, ""
        if not entry.is_file():
            return _kind_of_special(entry.path), ""
    except OSError as error:
        return ("links to themselves" if error.errno == errno.ELOOP else "links that cannot be followed"), ""
    if formats.by_ending(entry.name) is formats.IMAGE:
        return _IMAGE, ""
    head = None
    if formats.content_decides(entry.name):
        try:
            head = read_head(entry.path)
        except OSError:
            return "files that cannot be opened", ""
    image, kind, advice = look_into(head, entry.name, partial(open_regular, entry.path))
    return (_IMAGE, "") if image else (kind, advice)


def _kind_of_special(path: str) -> str:
    """What lies at a path that is neither a file nor a folder; nothing is opened."""
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return "links to nowhere"
    for is_kind, kind in (
        (stat.S_ISFIFO, "pipes"),
        (stat.S_ISSOCK, "sockets"),
        (stat.S_ISBLK, "devices"),
        (stat.S_ISCHR, "devices"),
    ):
        if is_kind(mode):
            return kind
    return "no regular files"


def _leads_back(link: os.DirEntry[str], real: str) -> bool:
    """Whether a link leads to what is read anyway below the folder `real`, or to a folder that `real` lies in."""
    target = os.path.realpath(link.path)
    if target == real or real.startswith(os.path.join(target, "")):
        return True
    if not target.startswith(os.path.join(real, "")):
        return False
    below = os.path.relpath(target, real)
    if link.is_dir():
        return not any(system_or_hidden(part, folder=True) for part in below.split(os.sep))
    return not inside_system_or_hidden(below) and formats.by_ending(below) in (None, formats.by_ending(link.name))
