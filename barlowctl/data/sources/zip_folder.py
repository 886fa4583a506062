"""Images in a zip file, 630 bytes of memory an image, most of them zipfile's own."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from barlowctl.data.images.formats import HEAD
from barlowctl.data.labels.label_table import FilesInArchive, find_label_table, labels_in, may_be_table
from barlowctl.data.labels.numbering import among, are_numbers
from barlowctl.data.labels.side_labels import LARGEST, read_side_labels
from barlowctl.data.names import written
from barlowctl.data.sources.class_depth import note_depth
from barlowctl.data.sources.damage import DAMAGED
from barlowctl.data.sources.image_folder import no_images
from barlowctl.data.sources.picture import Picture, Source
from barlowctl.data.sources.read_options import ClassFolders
from barlowctl.data.tree.arrangement import arrange, report_skipped, split_names, splits_of
from barlowctl.data.tree.members import REPLACED, is_image_member, kind_of_zip_member
from barlowctl.data.tree.scan import inside_system_or_hidden
from barlowctl.data.tree.splits import choices, split_in
from barlowctl.data.tree.trees import NameTree, parts_of
from barlowctl.errors import UserError

_UNIX = 3  # the system of a zip member whose name may hold backslashes


class ZipFolder(Source):
    """Images in a zip file, its folders read as an image folder's (`arrangement`); a pile may have labels in files.

    Raises:
        UserError: damaged, without images, or without the split that its train/ and val/ folders have.
    """

    choices = ("class_folders",)

    def __init__(self, path: Path, split: str, class_folders: ClassFolders | None = None) -> None:
        self.path, self.split = path, split
        try:
            self._zip = zipfile.ZipFile(path)
            _part_folders(self._zip)
            names = sorted(self._images())
        except DAMAGED as error:
            raise UserError(f"{path} is not a readable zip file: {error}", next="copy it again") from error
        if not names:
            raise no_images(path, self.scan_report)
        self._tree = tree = NameTree(names)
        arrangement = arrange(tree, split, str(path), common=True, inner=class_folders == "inner")
        if arrangement is None:
            folders = ", ".join(written(name) for name in split_names(tree))
            raise UserError(
                f"{path} has no {split} split",
                allowed=f"its folders: {folders}",
                next=choices(split_in(name) for name in split_names(tree)),
            )
        label, depth = arrangement.labeller(), len(arrangement.root)
        self._files: list[tuple[str, int]] = []
        for name in names:
            parts = parts_of(name)
            number = label(parts[depth:]) if parts[:depth] == arrangement.root else None
            if number is not None:
                self._files.append((name, number))
        self.class_names, self.splits = arrangement.class_names, splits_of(tree)
        self.kind = "images in a zip file" + (", in class folders" if arrangement.classes else "")
        for note in arrangement.notes:
            self.scan_report.note(note)
        report_skipped(arrangement, self.scan_report)
        places = {parts_of(name)[depth:-1] for name, _ in self._files}
        if len(self.class_names) < 2:  # one folder tells nothing apart
            self._take_labels_beside(path.joinpath(*arrangement.root), depth)
        note_depth(self, path, arrangement, places, class_folders)

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
            elif is_image_member(name, partial(self._head, member), self.scan_report):
                yield name

    def _head(self, member: zipfile.ZipInfo) -> bytes:
        try:
            with self._zip.open(member) as content:
                return content.read(HEAD)
        except DAMAGED:
            return b"damaged"

    def _take_labels_beside(self, place: Path, depth: int) -> None:
        """Labels in files beside the images (`side_labels`), else in a table (`label_table`).

        Args:
            place: the folder of the split, `depth` folders down, as if the zip file were a folder.
        """
        names = [name for name, _ in self._files]
        beside = [name for name in self._zip.namelist() if not inside_system_or_hidden(name)]
        labels = read_side_labels(names, beside, partial(self._read, size=LARGEST), str(self.path))
        ending, count = labels.files
        self.scan_report.take_back(f".{ending} files", count)
        if not labels.class_names:
            sizes = {name: self._zip.getinfo(name).file_size for name in beside if may_be_table(name)}
            below = ["/".join(parts_of(name)[depth:]) for name in names]
            files = FilesInArchive(self.path, sizes, self._read)
            table = find_label_table(self.path, place, below, self.split, self.scan_report, files)
            if table is not None:
                rows, labels = labels_in(table, self.split, self.scan_report)
                self._files = [self._files[row] for row in rows]
                self.splits = self.splits or {name for name in table.splits if name}
        if self.split != "train" and depth and labels.class_names and not are_numbers(labels.class_names):
            labels = among(labels, self._classes_of_training(place), str(self.path))
        for note in labels.notes:
            self.scan_report.note(note)
        if labels.class_names:
            self.class_names = labels.class_names
            self._files = [(name, int(number)) for (name, _), number in zip(self._files, labels.numbers, strict=True)]

    def _classes_of_training(self, place: Path) -> list[str] | None:
        """The classes of the training split, where this is another one."""
        training = arrange(self._tree, "train", str(self.path), common=True)
        if training is None or self.path.joinpath(*training.root) == place:
            return None
        return ZipFolder(self.path, "train").class_names or None

    def _read(self, name: str, size: int = -1) -> bytes:
        """The first bytes of a member, all for -1."""
        try:
            with self._zip.open(name) as content:
                return content.read(size)
        except DAMAGED as error:
            self.scan_report.skip("damaged files", name)
            raise OSError(f"damaged in the zip file: {error}") from error

    def __len__(self) -> int:
        return len(self._files)

    def describe(self, index: int) -> tuple[str, int]:
        return self._files[index]

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
