"""What can be packed: image folders, arrays in files, archives, Parquet files, lists of paths.

A source is a lazy, ordered list of pictures. `open_source` looks at a path and says which kind it is.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from barlowctl.data.archive_sources import open_archive
from barlowctl.data.array_sources import open_cifar, open_idx, open_stl10
from barlowctl.data.parquet_source import open_parquet
from barlowctl.data.picture import Picture, Source, is_image
from barlowctl.errors import UserError

SPLITS = ("train", "val", "test", "unlabelled")
UNDERSTOOD = (
    "a folder of images (with class folders or without, or with train/ and val/ folders), IDX files "
    "(MNIST, Fashion-MNIST; .gz or not), CIFAR-10/100 python batches, STL-10 binaries, tar shards (WebDataset), "
    "Parquet files with images, a zip file of images, a text file of paths"
)
# Where torchvision's downloads put things below the folder that one names.
_INSIDE = ("raw", "FashionMNIST/raw", "MNIST/raw", "cifar-10-batches-py", "cifar-100-python", "stl10_binary")
_IMAGES_INSIDE = ("imagenette2", "imagenette2-320", "imagenette2-160")
_FOLDERS = {  # a split's possible folder names, best first
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "test"),
    "test": ("test", "val", "valid", "validation"),
    "unlabelled": ("unlabelled", "unlabeled"),
}


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
        folders = _subfolders(path)
        pile = _holds_images(path)
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
        if pile:
            self._files = [(name, -1) for name in _walk(path, "")]
        present = set(folders)
        for label, folder in enumerate(self.class_names):
            if folder in present:
                self._files += [(name, label) for name in _walk(path / folder, folder)]
        if not self._files:
            raise UserError(
                f"no images under {path}",
                allowed=UNDERSTOOD,
                next=f"put image files into {path}, or give another folder",
            )

    def __len__(self) -> int:
        return len(self._files)

    def describe(self, index: int) -> tuple[str, int]:
        return self._files[index]

    def __getitem__(self, index: int) -> Picture:
        name, label = self._files[index]
        return Picture(name, label, (self.path / name).read_bytes())


def open_source(path: str | Path, split: str = "train") -> Source:
    """Recognise what lies at `path` and open a split of it.

    A folder with train/ and val/ (or test/) folders has those splits, and labels are positions among the
    class folders of train/; `val` and `test` stand in for one another where a data set has only one of
    them. A plain folder of images is taken as the split that is asked for.

    Raises:
        UserError: nothing there, nothing that is understood, or no such split.
    """
    path = Path(path).expanduser()
    if split not in SPLITS:
        raise UserError(f"split '{split}' is unknown", allowed=", ".join(SPLITS))
    if not path.exists():
        raise UserError(f"{path} does not exist", allowed=UNDERSTOOD)
    if path.is_file():
        opened = open_idx(path.parent, split, only=path) if "idx" in path.name else None
        opened = opened or open_archive(path, split) or open_parquet(path, split)
        if opened is None:
            hint = f"tar xf {path}, then give the folder" if ".t" in path.name and "gz" in path.name else None
            raise UserError(f"{path} is a file of no known kind", allowed=UNDERSTOOD, next=hint)
        return opened
    try:
        for opener in (open_idx, open_cifar, open_stl10):
            for folder in _candidates(path):
                opened = opener(folder, split)
                if opened is not None:
                    return opened
        opened = None if has_images(path) else open_archive(path, split) or open_parquet(path, split)
        if opened is not None:
            return opened
        inside = [path / name for name in _IMAGES_INSIDE if (path / name).is_dir()]
        return _open_images(inside[0] if inside else path, split)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error}", next="check access, or download it again") from error


# ---- image folders ---------------------------------------------------------------------------------------


def _open_images(path: Path, split: str) -> Source:
    if not has_split_folders(path):
        return ImageFolder(path, split)
    folder = split_folder(path, split)
    if folder is None:
        raise UserError(
            f"{path} has no {split} split",
            allowed=f"its folders: {', '.join(_subfolders(path))}",
            next="choose one with --split",
        )
    train = split_folder(path, "train")
    classes = _class_folders(train) if train and train != folder else None
    return ImageFolder(folder, split, classes or None)


def has_split_folders(path: Path) -> bool:
    """Whether a folder has train/ and val/ (or test/) folders, or nothing but folders named after splits.

    A class may be called "train" (the vehicle): it alone among other folders makes no split.
    """
    folders = set(_subfolders(path))
    splits = {name for names in _FOLDERS.values() for name in names}
    return bool(folders) and (
        folders <= splits or (not folders.isdisjoint(_FOLDERS["train"]) and not folders.isdisjoint(_FOLDERS["val"]))
    )


def has_images(path: Path) -> bool:
    """Whether a folder, or one of its sub-folders, directly holds an image file."""
    if not path.is_dir():
        return False
    places = [path, *(path / name for name in _subfolders(path))]
    return any(_holds_images(place) for place in places)


def split_folder(path: Path, split: str) -> Path | None:
    """The folder of a split in the layout with train/ and val/ folders; None where there is none."""
    folders = _subfolders(path)
    chosen = next((name for name in _FOLDERS[split] if name in folders), None)
    return path / chosen if chosen else None


def _class_folders(path: Path) -> list[str]:
    pile = _holds_images(path)
    return [] if pile else _subfolders(path)


def _subfolders(path: Path) -> list[str]:
    return sorted(entry.name for entry in os.scandir(path) if entry.is_dir() and not _hidden(entry.name))


def _walk(top: Path, prefix: str) -> list[str]:
    """Image files below `top`, sorted, as paths that begin with `prefix`."""
    found, seen = [], set()
    for folder, folders, names in os.walk(top, followlinks=True):
        identity = os.stat(folder)
        if (identity.st_dev, identity.st_ino) in seen:  # a link that leads back up
            folders.clear()
            continue
        seen.add((identity.st_dev, identity.st_ino))
        folders[:] = sorted(name for name in folders if not _hidden(name))
        inside = os.path.relpath(folder, top)
        start = os.path.normpath(os.path.join(prefix, inside))
        found += [os.path.normpath(os.path.join(start, name)) for name in names if _is_image(name)]
    return sorted(found, key=lambda name: name.split(os.sep))


def _holds_images(folder: Path) -> bool:
    return any(_is_image(name) for name in os.listdir(folder))


def _is_image(name: str) -> bool:
    return is_image(name) and not _hidden(name)


def _hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"


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


def _candidates(path: Path) -> list[Path]:
    return [path, *(path / inside for inside in _INSIDE if (path / inside).is_dir())]
