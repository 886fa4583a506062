"""Benchmarks in the layouts they are published in: Places-205, iNaturalist 2018, Pascal VOC 2007.

Each is a `Source` that reads image files where they lie; labels come from the benchmark's own annotation files.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from barlowctl.amounts import counted
from barlowctl.data.sources.picture import Picture, Source
from barlowctl.data.tree.regular import read_regular
from barlowctl.datasets import INAT18, PLACES205, VOC07, Dataset
from barlowctl.errors import UserError
from barlowctl.waits import Wait

_PLACES_IMAGES = ("data/vision/torralba/deeplearning/images256", "images256", ".")
_PLACES_LISTS = (
    "trainvalsplit_places205",
    "trainvalsplit_places205/trainvalsplit_places205",
    "trainvalsplit/trainvalsplit_places205",
    ".",
)


class ListedFiles(Source):
    """Image files that an annotation file lists, with a label each.

    Args:
        files: paths below `root`. labels: `(n,)` integers, -1 for none.
    """

    def __init__(
        self, kind: str, root: Path, split: str, files: Sequence[str], labels: np.ndarray, class_names: list[str]
    ) -> None:
        if not files:
            raise UserError(
                f"{root}: the annotations of {kind} list no {split} images", next="download it again from its authors"
            )
        if not any((root / name).is_file() for name in (files[0], files[len(files) // 2], files[-1])):
            raise UserError(
                f"{root}: the annotations of {kind} list '{files[0]}', which is not there",
                next=f"unpack the images of {kind} into {root}",
            )
        self.kind, self.path, self.split, self.class_names = kind, root, split, class_names
        self._files, self._labels = files, labels

    def __len__(self) -> int:
        return len(self._files)

    def describe(self, index: int) -> tuple[str, int]:
        return self._files[index], int(self._labels[index])

    def __getitem__(self, index: int) -> Picture:
        name, label = self.describe(index)
        return Picture(name, label, read_regular(self.path / name))

    def file(self, index: int) -> Path:
        return self.path / self._files[index]

    def missing(self) -> list[str]:
        """Names of files that are listed and not there, in order. Each folder is listed once; no file is looked at."""
        names_in: dict[str, set[str]] = {}
        absent = []
        for file in self._files:
            folder, _, name = file.rpartition("/")
            if folder not in names_in:
                place = self.path / folder
                names_in[folder] = set(os.listdir(place)) if place.is_dir() else set()
            if name not in names_in[folder]:
                absent.append(file)
        return absent


def check_present(*splits: ListedFiles) -> None:
    """Refuse a benchmark of which images are missing, before the first is read: the measurement takes hours.

    Raises:
        UserError: some are; the message counts and names them.
    """
    with Wait(f"looking for {counted(sum(map(len, splits)), 'image')} ..."):
        absent = {source.split: source.missing() for source in splits}
    count = sum(map(len, absent.values()))
    if count:
        named = [
            f"{split}: {', '.join(names[:3])}{', ...' if names[3:] else ''}" for split, names in absent.items() if names
        ]
        raise UserError(
            f"{splits[0].path}: {count:,} of the {sum(map(len, splits)):,} images that the annotations of "
            f"{splits[0].kind} list {'is' if count == 1 else 'are'} not there ({'; '.join(named)})",
            allowed="all of them; --on-unreadable skip leaves out what cannot be read, and names it",
            next="--on-unreadable skip",
        )


def check_order(dataset: Dataset, training: ListedFiles, test: ListedFiles) -> str | None:
    """That the lists of a benchmark's splits may have changed places, in words; None: the training list is longer.

    Raises:
        UserError: each has as many images as the other one as published.
    """
    published = list(dataset.images.values())
    if [len(test), len(training)] == published != [len(training), len(test)]:
        raise UserError(
            f"{training.path}: the list of {training.split} images has {len(training):,}, which are those of "
            f"{test.split}, and that of {test.split} images {len(test):,}: the lists have changed places",
            allowed=f"{published[0]:,} images to train and {published[1]:,} to test on",
            next="download it again from its authors",
        )
    if len(training) < len(test):
        return (
            f"the list of {training.split} images ({len(training):,}) is shorter than that of {test.split} images "
            f"({len(test):,}): have the lists changed places?"
        )
    return None


class Voc(ListedFiles):
    """Pascal VOC 2007: images with a presence of each of 20 classes.

    Attributes:
        targets: `(n, 20)` int8: 1 present, 0 absent, -1 difficult only (the devkit's 1, -1 and 0).
    """

    def __init__(self, root: Path, split: str, files: Sequence[str], targets: np.ndarray) -> None:
        super().__init__(VOC07.title, root, split, files, np.full(len(files), -1), list(VOC07.class_names))
        self.targets = targets


def open_places205(path: Path, split: str) -> ListedFiles:
    """Places-205: `trainvalsplit_places205/{train,val}_places205.csv` ("a/abbey/gsun_1.jpg 0" a line) and images256.

    Raises:
        UserError: no such list, no images, or a line that is no path and class.
    """
    path = _folder(path)
    name = f"{split}_places205.csv"
    lists = [path / folder / name for folder in _PLACES_LISTS if (path / folder / name).is_file()]
    if not lists:
        raise UserError(
            f"{path} has no {name}",
            allowed=f"trainvalsplit_places205/{name} and {_PLACES_IMAGES[0]}/ below it",
            next="unpack trainvalsplit_places205 and imagesPlaces205_resize into one folder",
        )
    files, labels = [], []
    for number, line in enumerate(lists[0].read_text(encoding="utf-8").splitlines(), start=1):
        file, _, label = line.strip().replace(",", " ").rpartition(" ")
        if not line.strip():
            continue
        if not file or not label.isdecimal():
            raise UserError(
                f"{lists[0]}, line {number}: '{line}'",
                allowed="a path and a class number",
                next="download it again from its authors",
            )
        files.append(file.strip())
        labels.append(int(label))
    images = next((path / folder for folder in _PLACES_IMAGES if files and (path / folder / files[0]).is_file()), path)
    names = [""] * (max(labels, default=-1) + 1)
    for file, number in zip(files, labels, strict=True):
        names[number] = names[number] or "/".join(Path(file).parts[1:-1])
    return ListedFiles(PLACES205.title, images, split, files, np.array(labels, dtype=np.int64), names)


def open_inat18(path: Path, split: str) -> ListedFiles:
    """iNaturalist 2018: `{train,val}2018.json` and the folder train_val2018.

    Labels are positions among the category numbers, in ascending order (they are 0 to 8141 as published).

    Raises:
        UserError: no such file, or one that is not of this format.
    """
    path = _folder(path)
    file = next((place for place in (path, path / "annotations") if (place / f"{split}2018.json").is_file()), None)
    if file is None:
        raise UserError(
            f"{path} has no {split}2018.json",
            allowed=f"{split}2018.json and train_val2018/ below it",
            next="unpack train_val2018, train2018.json and val2018.json into one folder",
        )
    file = file / f"{split}2018.json"
    try:
        document: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        names = {image["id"]: str(image["file_name"]) for image in document["images"]}
        labelled = [(names[entry["image_id"]], int(entry["category_id"])) for entry in document["annotations"]]
        categories = {int(entry["id"]): str(entry.get("name", entry["id"])) for entry in document["categories"]}
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{file} is not an annotation file of iNaturalist 2018: {type(error).__name__} {error}",
            allowed="JSON with images, annotations and categories",
            next="download it again from its authors",
        ) from error
    numbers = sorted(categories)
    positions = {number: position for position, number in enumerate(numbers)}
    unknown = [category for _, category in labelled if category not in positions]
    if unknown:
        raise UserError(
            f"{file}: category {unknown[0]} is not among its {len(numbers)} categories",
            next="download it again from its authors",
        )
    labels = np.array([positions[category] for _, category in labelled], dtype=np.int64)
    return ListedFiles(
        INAT18.title, path, split, [name for name, _ in labelled], labels, [categories[number] for number in numbers]
    )


def open_voc07(path: Path, split: str) -> Voc:
    """VOC 2007 from VOCdevkit: `ImageSets/Main/<class>_{trainval,test}.txt` and JPEGImages.

    Args:
        path: VOCdevkit, the folder that holds it, or VOC2007. split: "trainval" or "test".

    Raises:
        UserError: no VOC2007 there, a split or class is missing, or a list that does not parse.
    """
    path = _folder(path)
    root = next(
        (
            candidate
            for candidate in (path, path / "VOC2007", path / "VOCdevkit" / "VOC2007")
            if (candidate / "ImageSets/Main").is_dir()
        ),
        None,
    )
    if root is None:
        raise UserError(
            f"{path} has no VOC2007 with ImageSets/Main",
            allowed="VOCdevkit, or the folder that holds it",
            next="unpack VOCtrainval_06-Nov-2007.tar and VOCtest_06-Nov-2007.tar into one folder",
        )
    lists = [root / "ImageSets" / "Main" / f"{name}_{split}.txt" for name in VOC07.class_names]
    missing = [file.name for file in lists if not file.is_file()]
    if missing:
        archive = "VOCtest_06-Nov-2007.tar" if split == "test" else "VOCtrainval_06-Nov-2007.tar"
        raise UserError(
            f"{root}/ImageSets/Main lacks {missing[0]}" + (f" and {len(missing) - 1} more" if missing[1:] else ""),
            next=f"unpack {archive} into {root.parent.parent}",
        )
    marks = [_voc_list(file) for file in lists]
    images = sorted(marks[0])
    for file, marks_of_class in zip(lists, marks, strict=True):
        if sorted(marks_of_class) != images:
            raise UserError(
                f"{file} lists other images than {lists[0].name}",
                next="unpack the archive again",
            )
    meaning = {1: 1, -1: 0, 0: -1}
    targets = np.array(
        [[meaning[marks_of_class[image]] for marks_of_class in marks] for image in images], dtype=np.int8
    )
    return Voc(root, split, [f"JPEGImages/{image}.jpg" for image in images], targets)


def _voc_list(path: Path) -> dict[str, int]:
    marks = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        parts = line.split()
        if not parts:
            continue
        if len(parts) != 2 or parts[1] not in ("1", "-1", "0"):
            raise UserError(
                f"{path}, line {number}: '{line}'",
                allowed="an image and 1, -1 or 0 (difficult)",
                next="download it again from its authors",
            )
        marks[parts[0]] = int(parts[1])
    return marks


def _folder(path: Path) -> Path:
    path = path.expanduser()
    if not path.is_dir():
        raise UserError(
            f"'{path}' is no folder",
            next="name the benchmark's folder with --data",
        )
    return path
