"""Image files in folders: class folders, a flat pile, train/ and val/."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from pathlib import Path

from barlowctl.data.account import Account
from barlowctl.data.names import written
from barlowctl.data.picture import Picture, Source
from barlowctl.data.regular import read_regular
from barlowctl.data.scan import Scan, class_folders, holds_images, subfolders
from barlowctl.data.splits import FOLDERS
from barlowctl.errors import UserError

UNDERSTOOD = (
    "a folder of images (with class folders or without, or with train/ and val/ folders), IDX files "
    "(MNIST, Fashion-MNIST; .gz or not), CIFAR-10/100 python batches, STL-10 binaries, tar shards (WebDataset), "
    "Parquet files with images, a zip file of images, a text file of paths"
)


class ImageFolder(Source):
    """Image files under a folder, in the order of their paths; class folders give labels.

    With images directly in the folder it is a pile: every image below it, no labels. Otherwise each
    sub-folder is a class, in sorted order as torchvision's ImageFolder has it, and its images are found at
    any depth. Hidden files and folders are passed over.

    Args:
        classes: the class folders to expect (those of the training set), None to take them as they are.

    Raises:
        UserError: no images, an unexpected class folder, or two with the same visible name.
    """

    def __init__(self, path: Path, split: str, classes: Sequence[str] | None = None) -> None:
        self.path, self.split = path, split
        folders = class_folders(path)
        pile = holds_images(path)
        self.class_names = [] if pile else list(folders if classes is None else classes)
        self.kind = "images without class folders" if pile else "images in class folders"
        unknown = [] if pile else sorted(set(folders) - set(self.class_names))
        if unknown:
            raise UserError(
                f"{path} has the class folder '{unknown[0]}', which the training set lacks",
                allowed=f"the {len(self.class_names)} class folders of the training set",
            )
        _refuse_look_alikes(path, self.class_names)
        self._files: list[tuple[str, int]] = []
        scan = Scan(path, self.account)
        if pile:
            self._files = [(name, -1) for name in scan.walk()]
        else:
            scan.images()  # there are none: what lies beside the class folders is accounted for
        present = set(folders)
        for label, folder in enumerate(self.class_names):
            if folder in present:
                self._files += [(name, label) for name in scan.walk(folder)]
        self.class_names = [written(name) for name in self.class_names]
        if not self._files:
            raise no_images(path, self.account)

    def __len__(self) -> int:
        return len(self._files)

    def describe(self, index: int) -> tuple[str, int]:
        return self._files[index]

    def __getitem__(self, index: int) -> Picture:
        name, label = self._files[index]
        return Picture(name, label, read_regular(self.path / name))


def no_images(path: Path, account: Account) -> UserError:
    """What to say of a place where there are none: what lies there instead, and how to have it read."""
    met = [line.removeprefix("passed over: ") for line in account.lines() if line.startswith("passed over: ")]
    kinds = account.passed_over.values()
    install = next((found.next.partition(": ")[2] for found in kinds if "pip install" in found.next), None)
    return UserError(
        f"no images under {path}" + (f"; it has {'; '.join(met)}" if met else ""),
        allowed=UNDERSTOOD,
        next=install or "put image files into it, or give another folder",
    )


def open_image_folder(path: Path, split: str) -> ImageFolder:
    """A split of an image folder; a plain one is the split that is asked for.

    Raises:
        UserError: no such split, or as `ImageFolder`.
    """
    if not has_split_folders(path):
        return ImageFolder(path, split)
    folder = split_folder(path, split)
    if folder is None:
        raise UserError(
            f"{path} has no {split} split",
            allowed=f"its folders: {', '.join(subfolders(path))}",
            next="choose one with --split",
        )
    train = split_folder(path, "train")
    classes = _class_folders(train) if train and train != folder else None
    return ImageFolder(folder, split, classes or None)


def has_split_folders(path: Path) -> bool:
    """Whether a folder has train/ and val/ (or test/) folders, or nothing but folders named after splits.

    A class may be called "train" (the vehicle): it alone among other folders makes no split.
    """
    folders = set(subfolders(path))
    splits = {name for names in FOLDERS.values() for name in names}
    return bool(folders) and (
        folders <= splits or (not folders.isdisjoint(FOLDERS["train"]) and not folders.isdisjoint(FOLDERS["val"]))
    )


def split_folder(path: Path, split: str) -> Path | None:
    """The folder of a split in the layout with train/ and val/ folders; None where there is none."""
    folders = subfolders(path)
    chosen = next((name for name in FOLDERS[split] if name in folders), None)
    return path / chosen if chosen else None


def _class_folders(path: Path) -> list[str]:
    return [] if holds_images(path) else class_folders(path)


def _refuse_look_alikes(path: Path, names: Sequence[str]) -> None:
    seen: dict[str, str] = {}
    for name in names:
        shown = unicodedata.normalize("NFC", name)
        if shown in seen:
            raise UserError(
                f"{path} has two class folders that both read '{shown}': {seen[shown]!a} and {name!a}",
                next="merge or rename one of them",
            )
        seen[shown] = name
