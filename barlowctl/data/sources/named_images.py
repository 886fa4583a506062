"""Images that are known by their paths, with slashes: members of an archive, or files of a kind in a folder.

Folders are read as an image folder's (`arrangement`); a pile may have labels in files.
"""

from __future__ import annotations

import abc
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

from barlowctl.data.labels.label_table import Files, find_label_table, labels_in
from barlowctl.data.labels.numbering import among, are_numbers
from barlowctl.data.labels.side_labels import LARGEST, read_side_labels
from barlowctl.data.names import written
from barlowctl.data.sources.class_depth import note_depth
from barlowctl.data.sources.picture import Source
from barlowctl.data.sources.read_options import ClassFolders
from barlowctl.data.tree.arrangement import arrange, report_skipped, split_names, splits_of
from barlowctl.data.tree.masks import note_on_masks
from barlowctl.data.tree.scan import inside_system_or_hidden
from barlowctl.data.tree.splits import choices, split_in
from barlowctl.data.tree.trees import NameTree, parts_of
from barlowctl.errors import UserError


class NamedImages(Source):
    """Images of a split among many that paths name. Whoever derives from it calls `_arrange` once.

    Raises:
        UserError: without the split that their train/ and val/ folders have.
    """

    choices = ("class_folders",)

    def _arrange(self, path: Path, split: str, names: Sequence[str], class_folders: ClassFolders | None) -> None:
        """Choose the images of a split, and label them. names: of all images, sorted."""
        self.path, self.split = path, split
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
        if arrangement.classes:
            self.kind += ", in class folders"
        for note in arrangement.notes:
            self.scan_report.note(note)
        report_skipped(arrangement, self.scan_report)
        if note := note_on_masks([name for name, _ in self._files]):
            self.scan_report.note(note)
        places = {parts_of(name)[depth:-1] for name, _ in self._files}
        if len(self.class_names) < 2:  # one folder tells nothing apart
            self._take_labels_beside(path.joinpath(*arrangement.root), depth)
        note_depth(self, path, arrangement, places, class_folders)

    @abc.abstractmethod
    def _beside(self) -> Iterable[str]:
        """Names of all files that lie there, the images among them."""

    @abc.abstractmethod
    def _tables(self, beside: Sequence[str]) -> Files:
        """Where tables of labels lie."""

    @abc.abstractmethod
    def _read(self, name: str, size: int = -1) -> bytes:
        """The first bytes of a file, all for -1. Raises OSError."""

    @abc.abstractmethod
    def _training(self) -> Source:
        """The training split of the same images."""

    def _take_labels_beside(self, place: Path, depth: int) -> None:
        """Labels in files beside the images (`side_labels`), else in a table (`label_table`).

        Args:
            place: the folder of the split, `depth` folders down, as if an archive were a folder.
        """
        names = [name for name, _ in self._files]
        beside = [name for name in self._beside() if not inside_system_or_hidden(name)]
        labels = read_side_labels(names, beside, partial(self._read, size=LARGEST), str(self.path))
        ending, count = labels.files
        self.scan_report.take_back(f".{ending} files", count)
        if not labels.class_names:
            below = ["/".join(parts_of(name)[depth:]) for name in names]
            table = find_label_table(self.path, place, below, self.split, self.scan_report, self._tables(beside))
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
        return self._training().class_names or None

    def __len__(self) -> int:
        return len(self._files)

    def describe(self, index: int) -> tuple[str, int]:
        return self._files[index]
