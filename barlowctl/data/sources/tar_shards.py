"""Images in tar files: a sample is the files of one name (github.com/webdataset/webdataset); 130 bytes an image."""

from __future__ import annotations

import os
import tarfile
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from barlowctl import shell
from barlowctl.data.images.formats import HEAD, kind_of_other
from barlowctl.data.labels.label_table import FilesInArchive, find_label_table, keep_table, labels_in, may_be_table
from barlowctl.data.labels.numbering import Labels, among, are_numbers
from barlowctl.data.labels.side_labels import LARGEST, SideLabels
from barlowctl.data.names import packed_as, written
from barlowctl.data.sources.class_depth import note_depth
from barlowctl.data.sources.damage import DAMAGED
from barlowctl.data.sources.image_folder import no_images
from barlowctl.data.sources.picture import Picture, Source
from barlowctl.data.sources.read_options import ClassFolders
from barlowctl.data.sources.shard_files import distinct, labels_of_files
from barlowctl.data.sources.tar_samples import ALL, choose_members
from barlowctl.data.tree.arrangement import Arrangement, arrange, report_skipped, split_names, splits_of
from barlowctl.data.tree.members import REPLACED, is_image_member, kind_of_tar_member
from barlowctl.data.tree.scan import system_or_hidden
from barlowctl.data.tree.splits import choices, of_split, split_in, training_files
from barlowctl.data.tree.trees import NameTree, parts_of
from barlowctl.errors import UserError


class TarShards(Source):
    """Images in uncompressed tar files.

    Labels are in files beside the images (`side_labels`), else class folders give them, as in an image folder
    (`arrangement`); so do split folders.

    Args:
        member: which image of each sample, class_folders: which folders are classes, as in `ReadOptions`.
        training: the shards of the training split where they are others: labels that are words count among theirs.
        folder: where a table that lies beside the shards may label the images.

    Raises:
        UserError: compressed, damaged, without images, or without this split.
    """

    choices = ("member", "class_folders")

    def __init__(
        self,
        files: Sequence[Path],
        split: str,
        training: Sequence[Path] = (),
        member: str | None = None,
        folder: Path | None = None,
        class_folders: ClassFolders | None = None,
    ) -> None:
        self.kind, self.path, self.split = "images in tar shards", files[0].parent, split
        if len(files) == 1:
            self.path = files[0]
        self._top = folder or self.path
        self.files = distinct(files, self.scan_report)
        self._shards, self._begins, self._sizes = array("I"), array("Q"), array("Q")
        self._names: list[str] = []
        self._tables: dict[str, tuple[int, int, int]] = {}  # name -> shard, begin, bytes of what may be a table
        self.table: Path | None = None  # the one that labels are from
        side = SideLabels()
        for number, file in enumerate(self.files):
            self._look_over(number, file, side)
        if not self._names:
            raise no_images(self.path, self.scan_report)
        chosen = choose_members(self._names, self._shards, member, side.any_added)
        arrangement = self._arrangement(inner=class_folders == "inner")
        training_classes = _training_classes(training, member, class_folders)
        labels = side.settle(str(self.path), training_classes) or Labels(
            np.full(len(self._names), -1, dtype=np.int64), []
        )
        self.scan_report.take_back(f".{labels.files[0]} files", labels.files[1])
        places = _labels_of_folders(arrangement, self._names)
        if not labels.class_names and arrangement.classes:
            labels = Labels(places.clip(min=-1), arrangement.class_names, labels.notes)
            self.kind += ", in class folders"
            folders = {parts_of(self._names[row])[len(arrangement.root) : -1] for row in np.flatnonzero(places > -2)}
            note_depth(self, self.path, arrangement, folders, class_folders)
            labels = among(labels, training_classes, str(self.path))
        self._rows = np.flatnonzero((places > -2) & chosen.keep)  # those of this split
        labels = replace(labels, numbers=labels.numbers[self._rows])
        if not labels.class_names:
            by_file = self._labels_in_table(arrangement, training_classes) or self._labels_of_files(training_classes)
            labels = replace(by_file, notes=(*labels.notes, *by_file.notes))
        self.class_names, self._labels = labels.class_names, labels.numbers
        if not arrangement.classes:
            note_depth(self, self.path, arrangement, (), class_folders)
        report_skipped(arrangement, self.scan_report)
        for kind, rows in chosen.skipped.items():
            for row in rows:
                self.scan_report.skip(kind, self._names[row])
        command = shell.line("barlowctl", "data", "pack", self.path, packed_as(self.path), "--member", chosen.other)
        notes = [f"{note}; to read {chosen.other} alone (or {ALL}): {command}" for note in chosen.notes]
        for note in (*notes, *labels.notes, *arrangement.notes):
            self.scan_report.note(note)

    def _look_over(self, number: int, file: Path, side: SideLabels) -> None:
        first = len(self._names)
        try:
            with tarfile.open(file, "r:") as shard:
                for member in shard:
                    shard.members = []  # type: ignore[attr-defined]  # it would keep every header, a kilobyte each
                    if member.isdir():
                        continue
                    if kind := kind_of_tar_member(member):
                        self.scan_report.skip(kind, member.name)
                        continue
                    if may_be_table(member.name):
                        keep_table(self._tables, member.name, (number, member.offset_data, member.size))
                    if side.wants(member.name):
                        content = shard.extractfile(member)
                        side.add(member.name, content.read(LARGEST) if content else b"")
                        self.scan_report.skip(kind_of_other(member.name), member.name)  # until it is known for a label
                    elif is_image_member(
                        member.name, partial(_head, shard, member), partial(shard.extractfile, member), self.scan_report
                    ):
                        self._names.append(member.name)
                        self._shards.append(number)
                        self._begins.append(member.offset_data)
                        self._sizes.append(member.size)
        except DAMAGED as error:
            raise UserError(
                f"{file} is not a readable tar file: {error}",
                next="copy it again",
            ) from error
        self._drop_replaced(first)
        side.end_shard(self._names[first:])

    def _drop_replaced(self, first: int) -> None:
        """Of members of one name the last counts, as when a tar file is unpacked."""
        last = {name: index for index, name in enumerate(self._names[first:], first)}
        for index in range(len(self._names) - 1, first - 1, -1) if len(last) < len(self._names) - first else ():
            if last[self._names[index]] != index:
                self.scan_report.skip(REPLACED, self._names[index])
                for column in (self._names, self._shards, self._begins, self._sizes):
                    del column[index]

    def _labels_in_table(self, arrangement: Arrangement, training_classes: Sequence[str] | None) -> Labels | None:
        """Labels in a table (`label_table`) in or beside the shards of the images in `_rows`.

        Where the table has a column of splits, images of others are taken out of `_rows`.
        """
        depth = len(arrangement.root)
        names = ["/".join(parts_of(self._names[row])[depth:]) for row in self._rows]
        sizes = {name: size for name, (_, _, size) in self._tables.items()}
        files = FilesInArchive(self._top, sizes, lambda name: self._read(*self._tables[name]))
        table = find_label_table(
            self._top, self._top.joinpath(*arrangement.root), names, self.split, self.scan_report, files
        )
        if table is None:
            return None
        rows, labels = labels_in(table, self.split, self.scan_report)
        self.splits = self.splits or {name for name in table.splits if name}
        self._rows, self.table = self._rows[list(rows)], table.file
        if not labels.class_names or are_numbers(labels.class_names):
            return labels
        return among(labels, training_classes or self._classes_of_training(arrangement), str(self.path))

    def _classes_of_training(self, arrangement: Arrangement) -> list[str] | None:
        """The classes of the training split in the same shards, where this is another one."""
        training = arrange(NameTree(self._names), "train", str(self.path), common=True)
        if self.split == "train" or training is None or training.root == arrangement.root:
            return None
        return TarShards(self.files, "train", folder=self._top if self._top.is_dir() else None).class_names or None

    def _labels_of_files(self, training_classes: Sequence[str] | None) -> Labels:
        """Labels by the names of the shards, where these are classes."""
        shards = np.array(self._shards, dtype=np.int64)
        filled = np.unique(shards)
        firsts = [self._names[np.searchsorted(shards, number)] for number in filled]
        labels = labels_of_files([self.files[number] for number in filled], training_classes, firsts)
        self.kind += ", a class each" if labels.class_names else ""
        return replace(labels, numbers=labels.numbers[np.searchsorted(filled, shards[self._rows])])

    def _read(self, shard: int, begin: int, size: int) -> bytes:
        with open(self.files[shard], "rb", buffering=0) as file:
            return os.pread(file.fileno(), size, begin)

    def _arrangement(self, *, inner: bool) -> Arrangement:
        tree = NameTree(self._names)
        self.splits = splits_of(tree)
        arrangement = arrange(tree, self.split, str(self.path), common=True, inner=inner)
        if arrangement is None:
            folders = ", ".join(written(name) for name in split_names(tree))
            raise UserError(
                f"{self.path} has no {self.split} split",
                allowed=f"its folders: {folders}",
                next=choices(split_in(name) for name in split_names(tree)),
            )
        return arrangement

    def __len__(self) -> int:
        return len(self._rows)

    def describe(self, index: int) -> tuple[str, int]:
        row = self._rows[index]
        return f"{self.files[self._shards[row]].name}/{self._names[row]}", int(self._labels[index])

    def __getitem__(self, index: int) -> Picture:
        row = self._rows[index]
        return Picture(*self.describe(index), self._read(self._shards[row], self._begins[row], self._sizes[row]))

    def extent(self, index: int) -> tuple[int, int]:
        return self._sizes[self._rows[index]], -1


def open_tar_shards(
    files: Sequence[Path],
    split: str,
    member: str | None = None,
    training: Sequence[Path] | None = None,
    class_folders: ClassFolders | None = None,
) -> TarShards:
    """The shards of a split (`splits.of_split`); training: where those of the training split lie elsewhere.

    Raises:
        UserError: see `TarShards`.
    """
    training = training_files(files, split) if training is None else of_split(training, "train")
    return TarShards(of_split(files, split), split, training, member, files[0].parent, class_folders)


def tar_files(path: Path) -> list[Path]:
    """Visible tar files in a folder, sorted."""
    return sorted(
        file
        for file in path.iterdir()
        if file.suffix.lower() == ".tar" and file.is_file() and not system_or_hidden(file.name, folder=False)
    )


def _head(shard: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    """A member's first bytes."""
    content = shard.extractfile(member)
    return content.read(HEAD) if content else b""


def _training_classes(
    training: Sequence[Path], member: str | None, class_folders: ClassFolders | None
) -> list[str] | None:
    """The class names of the training shards, where they are no numbers."""
    names = open_tar_shards(training, "train", member, class_folders=class_folders).class_names if training else []
    return names if names and not are_numbers(names) else None


def _labels_of_folders(arrangement: Arrangement, names: Iterable[str]) -> np.ndarray:
    """(n,) int64: labels by folders, -1 for none, -2 for images of another split."""
    label, depth = arrangement.labeller(), len(arrangement.root)
    numbers = []
    for name in names:
        parts = parts_of(name)
        number = label(parts[depth:]) if parts[:depth] == arrangement.root else None
        numbers.append(-2 if number is None else number)
    return np.array(numbers, dtype=np.int64)
