"""Image files in folders: class folders, a flat pile, train/ and val/."""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from pathlib import Path

from barlowctl import shell
from barlowctl.data.images import formats
from barlowctl.data.labels import imagenet_devkit
from barlowctl.data.labels.label_table import FilesOnDisk, column_of, find_label_table, labels_in
from barlowctl.data.labels.numbering import Labels, among, are_numbers
from barlowctl.data.labels.side_labels import read_side_labels
from barlowctl.data.names import packed_as, written
from barlowctl.data.sources.class_depth import note_depth
from barlowctl.data.sources.picture import Picture, Source
from barlowctl.data.sources.read_options import ClassFolders
from barlowctl.data.tree.arrangement import arrange, report_skipped, split_names, splits_of
from barlowctl.data.tree.masks import note_on_masks
from barlowctl.data.tree.regular import read_regular
from barlowctl.data.tree.scan import Scan, class_folders, has_images, subfolders
from barlowctl.data.tree.scan_report import ScanReport
from barlowctl.data.tree.splits import choices, split_in
from barlowctl.data.tree.trees import FolderTree
from barlowctl.errors import UserError

UNDERSTOOD = (
    "a folder of images (with class folders or without, or with train/ and val/ folders), IDX files "
    "(MNIST, Fashion-MNIST; .gz or not), CIFAR-10/100 python batches, STL-10 binaries, tar shards (WebDataset), "
    "Parquet files with images, a zip file of images, NumPy arrays (.npz, .npy), HDF5 files, a text file of paths"
)


class ImageFolder(Source):
    """Image files under a folder, in the order of their paths; its folders are read as `arrangement.arrange` says.

    Hidden files and folders are skipped. Names begin below the folder that holds the classes, or the pile.

    Args:
        class_folders: which folders are classes, as in `ReadOptions`.

    Raises:
        UserError: no images, no such split, a class folder that the training set lacks, or two with the same visible
            name.
    """

    choices = ("class_folders",)

    def __init__(self, path: Path, split: str, class_folders: ClassFolders | None = None) -> None:
        tree = FolderTree(path)
        arrangement = arrange(tree, split, str(path), inner=class_folders == "inner")
        if arrangement is None:
            raise UserError(
                f"{path} has no {split} split",
                allowed=f"its folders: {', '.join(written(name) for name in split_names(tree))}",
                next=choices(split_in(name) for name in split_names(tree)),
            )
        self.by_table = False  # whether a table says which images are of the split
        self._table: Path | None = None  # that labels come from
        self.path, self.split, self.class_names = path.joinpath(*arrangement.root), split, arrangement.class_names
        self.splits = splits_of(tree)
        self.kind = "images in class folders" if arrangement.classes else "images without class folders"
        label = arrangement.labeller()
        above = [path.joinpath(*arrangement.root[:depth]) for depth in range(len(arrangement.root))]
        self._files: list[tuple[str, int]] = []
        for name in self._find(above, by_class=bool(arrangement.classes)):
            if (number := label(name.split(os.sep))) is not None:
                self._files.append((name, number))
        for note in arrangement.notes:
            self.scan_report.note(note)
        report_skipped(arrangement, self.scan_report)
        if note := note_on_masks([name for name, _ in self._files]):
            self.scan_report.note(note)
        if not self._files:
            raise no_images(path, self.scan_report)
        folders = {os.path.dirname(name) for name, _ in self._files}
        if len(self.class_names) < 2:  # one folder tells nothing apart
            self._take_labels_beside(path)
        note_depth(self, path, arrangement, (folder.split(os.sep) for folder in folders if folder), class_folders)

    def _find(self, above_it: Sequence[Path], *, by_class: bool) -> list[str]:
        """Paths of the images in order; what else lies there is reported.

        above_it: the folders from the one that was given down to the one above that of the split.
        by_class: a link from one class folder to an image of another is an image of its own.
        """
        scan = Scan(self.path, self.scan_report)
        for above in above_it:  # what lies beside the split folders is reported
            beside = Scan(above, self.scan_report)
            beside.images()
            for folder in subfolders(above):
                if not has_images(above / folder):  # annotations, say; folders of images are splits, masks or others
                    beside.walk(folder)
        if not by_class:
            return scan.walk()
        names = scan.images()
        for folder in class_folders(self.path):
            names += scan.walk(folder)
        return sorted(names, key=lambda name: name.split(os.sep))

    def _take_labels_beside(self, top: Path) -> None:
        """Labels in files beside the images (`side_labels`), else in one that lists them."""
        names = [name for name, _ in self._files]
        folders = sorted({os.path.dirname(name) for name in names})
        beside = (os.path.join(folder, file) for folder in folders for file in sorted(os.listdir(self.path / folder)))
        labels = read_side_labels(names, beside, lambda name: read_regular(self.path / name), str(self.path))
        ending, count = labels.files
        self.scan_report.take_back(f".{ending} files", count)
        if not labels.class_names:
            labels = self._labels_listed(top, names) or labels
        if labels.class_names and not are_numbers(labels.class_names):
            labels = among(labels, self._classes_of_training(top), str(self.path))
        for note in labels.notes:
            self.scan_report.note(note)
        if not labels.class_names:
            return
        self.class_names = labels.class_names
        self._files = [(name, int(number)) for (name, _), number in zip(self._files, labels.numbers, strict=True)]

    def _labels_listed(self, top: Path, names: list[str]) -> Labels | None:
        """Labels that are listed in files of their own: in ImageNet's devkit, else in a table (`label_table`)."""
        devkit = imagenet_devkit.labels_of(names, [*_up_to(self.path, top), top.parent])
        if devkit is not None and devkit.class_names:
            for kind, skipped in list(self.scan_report.skipped.items()):
                for file in [name for name in skipped.examples if os.path.basename(name) in imagenet_devkit.FILES]:
                    self.scan_report.take_back(kind, 1, file)
            return devkit
        table = find_label_table(top, self.path, names, self.split, self.scan_report, FilesOnDisk())
        if table is None:
            return devkit
        self._table = table.file
        rows, labels = labels_in(table, self.split, self.scan_report)
        self._files, self.by_table = [self._files[row] for row in rows], bool(table.splits)
        self.splits = self.splits or {name for name in table.splits if name}
        return labels

    def _classes_of_training(self, top: Path) -> list[str] | None:
        """The classes of the training split of the folder that was given, where this is another split."""
        if self.split == "train" or top == self.path:
            return None
        arrangement = arrange(FolderTree(top), "train", str(top))
        return (
            ImageFolder(top, "train").class_names or None
            if arrangement and top.joinpath(*arrangement.root) != self.path
            else None
        )

    def __len__(self) -> int:
        return len(self._files)

    def describe(self, index: int) -> tuple[str, int]:
        return self._files[index]

    def __getitem__(self, index: int) -> Picture:
        name, label = self._files[index]
        return Picture(name, label, read_regular(self.path / name))

    def column(self, name: str) -> list[object]:
        names, file = [file for file, _ in self._files], self._table
        if file is None:  # of class folders: a table may say what else is known
            table = find_label_table(self.path, self.path, names, self.split, ScanReport(), FilesOnDisk())
            file = table.file if table else None
        return super().column(name) if file is None else column_of(file, self.path, names, name)

    def file(self, index: int) -> Path:
        return self.path / self._files[index][0]


def _up_to(path: Path, top: Path) -> list[Path]:
    """A folder and those above it, up to the one that was given."""
    return [path, *itertools.takewhile(lambda above: above != top.parent, path.parents)] if path != top else [path]


SAVED = ("state.json", "dataset_dict.json")
"""What `save_to_disk` of Hugging Face's data sets writes beside its Arrow files."""


def no_images(path: Path, report: ScanReport) -> UserError:
    """What to say of a place where there are none: what lies there instead, and how to have it read."""
    met = [line.removeprefix("passed over: ") for line in report.lines() if line.startswith("passed over: ")]
    kinds = report.skipped.values()
    inside, arrays = report.skipped.get(formats.ARCHIVE.kind), report.skipped.get(formats.NUMPY_ARCHIVE.kind)
    unpacked = None
    if inside is not None and path.suffix.lower() == ".tar":
        folder = path.with_suffix("")  # of its own: ImageNet's has a thousand files
        unpacked = f"{shell.line('mkdir', '-p', folder)} && {shell.line('tar', 'xf', path, '-C', folder)}"
    elif arrays is not None and path.is_dir():
        unpacked = shell.line("barlowctl", "data", "pack", archive := path / arrays.examples[0], packed_as(archive))
    elif inside is not None and path.is_dir() and inside.examples[0].lower().endswith((".zip", ".tar", ".parquet")):
        unpacked = shell.line("barlowctl", "data", "pack", archive := path / inside.examples[0], packed_as(archive))
    elif any((path / name).is_file() for name in SAVED) and inside is not None:
        unpacked = f"in Python: barlowctl.pack(datasets.load_from_disk({str(path)!r}), {packed_as(path).stem!r})"
    install = next((skipped.next.partition(": ")[2] for skipped in kinds if "pip install" in skipped.next), None)
    return UserError(
        f"no images {'under' if path.is_dir() else 'in'} {path}" + (f"; it has {'; '.join(met)}" if met else ""),
        allowed=UNDERSTOOD,
        next=install or unpacked or ("put image files into it, or give another folder" if path.is_dir() else None),
    )


def has_split_folders(path: Path) -> bool:
    """Whether a folder has split folders: at the top, below a folder that holds everything, or within every class."""
    return bool(split_names(FolderTree(path)))


def split_by_table(path: Path, split: str) -> bool:
    """Whether a table beside the images of a folder without split folders says which of them are of a split.

    Raises:
        UserError: it says so of other splits only.
    """
    return ImageFolder(path, split).by_table


def split_folder(path: Path, split: str) -> Path | None:
    """Where the images of a split lie in a folder with split folders; None where it has no such split."""
    arrangement = arrange(FolderTree(path), split, str(path))
    return None if arrangement is None else path.joinpath(*arrangement.root)
