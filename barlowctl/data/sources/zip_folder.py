"""Images in a zip file, 630 bytes of memory an image, most of them zipfile's own."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

from barlowctl.data.images import formats, without_picture
from barlowctl.data.labels.label_table import FilesInArchive, may_be_table
from barlowctl.data.sources.damage import DAMAGED
from barlowctl.data.sources.image_folder import no_images
from barlowctl.data.sources.named_images import NamedImages
from barlowctl.data.sources.picture import Picture
from barlowctl.data.sources.read_options import ClassFolders
from barlowctl.data.tree.members import REPLACED, is_image_member, kind_of_zip_member
from barlowctl.data.tree.scan import holds_none
from barlowctl.errors import UserError

_UNIX = 3  # the system of a zip member whose name may hold backslashes


class ZipFolder(NamedImages):
    """Images in a zip file.

    Raises:
        UserError: damaged, without images, or as `NamedImages` does.
    """

    def __init__(self, path: Path, split: str, class_folders: ClassFolders | None = None) -> None:
        self.kind = "images in a zip file"
        try:
            self._zip = zipfile.ZipFile(path)
            _part_folders(self._zip)
            names = sorted(self._images()) or self._arrays()
        except DAMAGED as error:
            raise UserError(f"{path} is not a readable zip file: {error}", next="copy it again") from error
        if not names:
            raise no_images(path, self.scan_report)
        self._arrange(path, split, names, class_folders)

    def _images(self) -> Iterator[str]:
        """Names of the images; other members are reported. Of members of one name the last counts."""
        for member in self._zip.infolist():
            name = member.filename
            if member is not self._zip.getinfo(name):
                self.scan_report.skip(REPLACED, name)
                continue
            if not name or name.endswith("/"):
                continue
            kind, advice = kind_of_zip_member(member)
            if kind:
                self.scan_report.skip(kind, name, next=advice)
            elif is_image_member(name, partial(self._head, member), partial(self._zip.open, member), self.scan_report):
                yield name

    def _arrays(self) -> list[str]:
        """Names of `.npy` files, which are images where there are no others."""
        files = [member.filename for member in self._zip.infolist() if not kind_of_zip_member(member)[0]]
        arrays = sorted({name for name in files if formats.by_ending(name) is formats.NUMPY})
        self.scan_report.take_back(formats.NUMPY.kind, len(arrays))
        others = [name for name in arrays if holds_none(partial(self._zip.open, name), without_picture.numpy)]
        for name in others:
            self.scan_report.skip(without_picture.NUMPY_KIND, name)
        return [name for name in arrays if name not in set(others)]

    def _head(self, member: zipfile.ZipInfo) -> bytes:
        try:
            with self._zip.open(member) as content:
                return content.read(formats.HEAD)
        except DAMAGED:
            return b"damaged"

    def _beside(self) -> Iterable[str]:
        return self._zip.namelist()

    def _tables(self, beside: Sequence[str]) -> FilesInArchive:
        sizes = {name: self._zip.getinfo(name).file_size for name in beside if may_be_table(name)}
        return FilesInArchive(self.path, sizes, self._read)

    def _training(self) -> ZipFolder:
        return ZipFolder(self.path, "train")

    def _read(self, name: str, size: int = -1) -> bytes:
        """The first bytes of a member, all for -1."""
        try:
            with self._zip.open(name) as content:
                return content.read(size)
        except DAMAGED as error:
            self.scan_report.skip("damaged files", name)
            raise OSError(f"damaged in the zip file: {error}") from error

    def __getitem__(self, index: int) -> Picture:
        name, label = self._files[index]
        try:
            return Picture(name, label, self._zip.read(name))  # a ZipFile locks its file between threads
        except DAMAGED as error:
            raise OSError(f"damaged in the zip file: {error}") from error

    def extent(self, index: int) -> tuple[int, int]:
        member = self._zip.getinfo(self._files[index][0])
        return member.file_size, member.CRC


def _part_folders(archive: zipfile.ZipFile) -> None:
    """Programs for Windows part folders with backslashes, against the format (APPNOTE.TXT, 4.4.17)."""
    for member in archive.infolist():
        if "\\" in member.filename and member.create_system != _UNIX:
            member.filename = member.filename.replace("\\", "/")
            archive.NameToInfo[member.filename] = member
