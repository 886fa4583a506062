"""Images with boxes in Pascal VOC's layout: XML files of annotations, JPEGImages, lists of the images of a split.

Source: VOCdevkit of 2007 and 2012, section "Annotation" of its documentation; what detectron2's `load_voc_instances`
reads. Boxes there are 1-based, and include their last pixel: left and top become one less.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from barlowctl.amounts import counted
from barlowctl.data.names import written
from barlowctl.datasets import VOC07
from barlowctl.detect.annotations import Annotation
from barlowctl.detect.image_files import Reading, require_files
from barlowctl.detect.left_out import BEYOND, LeftOut, box_fault, first, reaches_beyond
from barlowctl.detect.objects import Object, ObjectTable
from barlowctl.detect.voc_xml import VocDocument, read_document
from barlowctl.errors import UserError

YEARS = ("VOC2007", "VOC2012")
_IMAGE_FOLDERS = ("JPEGImages", "images", "Images")
_SPLIT_FOLDERS = {"train": ("train",), "test": ("test", "val", "valid")}


@dataclass(frozen=True)
class VocImage:
    """An image of a list: the folder that it is in, its name there without the ending, and its annotation's file."""

    folder: Path
    stem: str
    file: str
    annotations: Path


class VocImages:
    """See `DetectionImages`. The image's id is its position, a class's number its position from 1 on.

    Args:
        path: the folder, for messages. split: "train" or "test".
        images: in the order of the lists.
        classes: whose numbers are the labels; None: VOC's twenty where they cover all names, else those that occur.
        reading: how files become pixels; None: the defaults.

    Raises:
        UserError: an annotation that cannot be read, or names a class that is not among `classes`.
    """

    def __init__(
        self,
        path: Path,
        split: str,
        images: Sequence[VocImage],
        classes: Sequence[str] | None,
        reading: Reading | None = None,
    ) -> None:
        self.reading = reading or Reading()
        self.path, self.split, self._images = path, split, list(images)
        documents = [read_document(image.annotations) for image in self._images]
        self.classes = tuple(classes or _classes_of(documents))
        self.category_ids = tuple(range(1, len(self.classes) + 1))
        problems = LeftOut()
        labels = {name: number for number, name in enumerate(self.classes)}
        self._sizes: list[tuple[int, int]] = []
        objects: list[list[Object]] = []
        unknown: dict[str, str] = {}
        for index, (image, document) in enumerate(zip(self._images, documents, strict=True)):
            size = document.size or self.reading.image(image.folder, image.file, index, None).shape[:2]
            self._sizes.append((size[0], size[1]))
            objects.append(list(_objects(image, document, self._sizes[-1], labels, problems, unknown)))
        if unknown:
            raise UserError(
                f"{path}: the {split} images have objects of classes that training does not know: "
                + first([f"'{name}' ({place})" for name, place in unknown.items()]),
                allowed=", ".join(self.classes),
                next="give these objects a class of the training images, or take them out",
            )
        self._table = ObjectTable(objects, outlined=False)
        self.notices = problems.notices(path)

    def __len__(self) -> int:
        return len(self._images)

    def name(self, index: int) -> str:
        return written(self._images[index].file)

    def image_id(self, index: int) -> int:
        return index

    def file(self, index: int) -> Path:
        return self._images[index].folder / self._images[index].file

    def size(self, index: int) -> tuple[int, int]:
        return self._sizes[index]

    def image(self, index: int) -> np.ndarray:
        image = self._images[index]
        return self.reading.image(image.folder, image.file, index, self._sizes[index])

    def annotation(self, index: int) -> Annotation:
        return self._table.annotation(index, index)

    @property
    def objects(self) -> int:
        return len(self._table.labels)

    @cached_property
    def trainable(self) -> np.ndarray:
        return np.flatnonzero(self._table.trainable())

    def ground_truth(self) -> dict[str, Any]:
        """For COCO's metric, which knows no difficult objects: they count as the others do."""
        annotations: list[dict[str, Any]] = []
        for index in range(len(self)):
            annotation = self.annotation(index)
            for box, label, area in zip(
                annotation.boxes.tolist(), annotation.labels.tolist(), annotation.areas.tolist(), strict=True
            ):
                left, top, right, bottom = box
                annotations.append({
                    "id": len(annotations) + 1, "image_id": index, "category_id": self.category_ids[label],
                    "bbox": [left, top, right - left, bottom - top], "area": area, "iscrowd": 0,
                })  # fmt: skip
        images = [
            {"id": index, "file_name": self.name(index), "height": height, "width": width}
            for index, (height, width) in enumerate(self._sizes)
        ]
        categories = [{"id": id, "name": name} for id, name in zip(self.category_ids, self.classes, strict=True)]
        return {"images": images, "annotations": annotations, "categories": categories}


def _classes_of(documents: Sequence[VocDocument]) -> Sequence[str]:
    """VOC's twenty, or where others occur those, sorted."""
    names = {entry.name for document in documents for entry in document.objects}
    return VOC07.class_names if names <= set(VOC07.class_names) else sorted(names)


def _objects(
    image: VocImage,
    document: VocDocument,
    size: tuple[int, int],
    labels: dict[str, int],
    problems: LeftOut,
    unknown: dict[str, str],
) -> Iterator[Object]:
    """The objects that can be used; classes that have no label go into `unknown`, with where they are."""
    for entry in document.objects:
        xmin, ymin, xmax, ymax = entry.box
        box = (xmin - 1.0, ymin - 1.0, xmax, ymax)
        place = f"'{entry.name}' of {image.annotations.name}"
        if entry.name not in labels:
            unknown.setdefault(entry.name, image.annotations.name)
        elif fault := box_fault(box, *size):
            problems.add(fault, place)
        else:
            if reaches_beyond(box, *size):
                problems.add(BEYOND, place)
            area = (box[2] - box[0]) * (box[3] - box[1])
            yield Object(box, labels[entry.name], area, entry.difficult)


def open_voc(path: Path, split: str, classes: Sequence[str] | None = None, reading: Reading | None = None) -> VocImages:
    """Images in VOC's layout.

    A devkit (VOC2007 and VOC2012, in `path` or in VOCdevkit below it) is the paper's: split "train" is the trainval of
    both, "test" that of 2007. A folder with `Annotations` and `JPEGImages` of its own is one's own: "train" is the list
    trainval.txt where there is a test.txt, else train.txt; "test" is test.txt, else val.txt. So is a folder with
    `train` and one of `test`, `val` and `valid`, each with the images and an XML file beside each of them.

    Raises:
        UserError: another layout, a list or files that are missing, annotations that cannot be read.
    """
    path = path.expanduser()
    if (path / "Annotations").is_dir():
        return VocImages(path, split, _listed(path, _list_of(path, split)), classes, reading)
    for name in _SPLIT_FOLDERS[split]:
        if any((path / name).glob("*.xml")):
            return VocImages(path, split, _beside(path / name), classes, reading)
    devkit = _devkit(path)
    if devkit is None:
        raise UserError(
            f"{path} is not in VOC's layout" if path.is_dir() else f"'{path}' is no folder",
            allowed="VOCdevkit with VOC2007 and VOC2012; a folder with Annotations/*.xml, JPEGImages/ and "
            "ImageSets/Main/train.txt and test.txt; or one with train/ and test/, each with images and XML files",
            next="name the folder that has them with --data",
        )
    years = YEARS if split == "train" else YEARS[:1]
    images: list[VocImage] = []
    for year in years:
        name = "trainval" if split == "train" else "test"
        file = devkit / year / "ImageSets" / "Main" / f"{name}.txt"
        if not file.is_file():
            raise UserError(
                f"{devkit} has no {file.relative_to(devkit)}",
                allowed="trainval of VOC2007 and VOC2012, and test of VOC2007; one year alone: name its folder",
                next=f"unpack {_ARCHIVES[year, name]} into {devkit.parent if devkit.name == 'VOCdevkit' else devkit}",
            )
        images += _listed(devkit / year, file)
    return VocImages(path, split, images, classes, reading)


def is_voc(path: Path) -> bool:
    """Whether the images to train on are in VOC's layout, as far as names of files say."""
    beside = any(any((path / name).glob("*.xml")) for name in _SPLIT_FOLDERS["train"])
    return beside or (path / "Annotations").is_dir() or _devkit(path) is not None


def _devkit(path: Path) -> Path | None:
    places = (path, path / "VOCdevkit")
    return next((place for place in places if any((place / year).is_dir() for year in YEARS)), None)


_ARCHIVES = {
    ("VOC2007", "trainval"): "VOCtrainval_06-Nov-2007.tar",
    ("VOC2007", "test"): "VOCtest_06-Nov-2007.tar",
    ("VOC2012", "trainval"): "VOCtrainval_11-May-2012.tar",
}


def _list_of(root: Path, split: str) -> Path:
    """The list of a split in a folder of one's own."""
    lists = root / "ImageSets" / "Main"
    has_test = (lists / "test.txt").is_file()
    names = (("trainval", "train") if has_test else ("train",)) if split == "train" else ("test", "val")
    for name in names:
        if (lists / f"{name}.txt").is_file():
            return lists / f"{name}.txt"
    raise UserError(
        f"{root} has no ImageSets/Main/{names[-1]}.txt",
        allowed="train.txt and val.txt or test.txt there, each with one name of an image a line, without its ending",
        next=f"write the names of the {'training' if split == 'train' else 'test'} images into {lists / names[-1]}.txt",
    )


def _listed(root: Path, file: Path) -> list[VocImage]:
    """The images of a list; each is there, and once."""
    try:
        stems = [line.strip() for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file} cannot be read: {error}", next="copy it again") from error
    if not stems:
        raise UserError(f"{file} names no image", next="write one name of an image a line, without its ending")
    seen: set[str] = set()
    twice = [stem for stem in stems if stem in seen or seen.add(stem)]  # type: ignore[func-returns-value]
    if twice:
        raise UserError(
            f"{file} names {len(twice):,} {'image' if len(twice) == 1 else 'images'} twice: {first(twice)}",
            next="name every image once",
        )
    folder = next((root / name for name in _IMAGE_FOLDERS if (root / name).is_dir()), root / _IMAGE_FOLDERS[0])
    files = {Path(name).stem: name for name in sorted(os.listdir(folder), reverse=True)} if folder.is_dir() else {}
    names = [files.get(stem, f"{stem}.jpg") for stem in stems]
    require_files(folder, names, file)
    annotations = root / "Annotations"
    require_annotations(annotations, stems, file)
    return [VocImage(folder, stem, name, annotations / f"{stem}.xml") for stem, name in zip(stems, names, strict=True)]


def _beside(folder: Path) -> list[VocImage]:
    """The images of a folder that have an XML file of their name, in the order of their names."""
    names = sorted(os.listdir(folder))
    stems = [Path(name).stem for name in names if name.endswith(".xml")]
    files = {Path(name).stem: name for name in reversed(names) if not name.endswith(".xml")}
    images = [files.get(stem, f"{stem}.jpg") for stem in stems]
    require_files(folder, images, folder)
    return [VocImage(folder, stem, name, folder / f"{stem}.xml") for stem, name in zip(stems, images, strict=True)]


def require_annotations(folder: Path, stems: list[str], file: Path) -> None:
    """Refuse a list of images without annotations, such as the test of 2012."""
    there = set(os.listdir(folder)) if folder.is_dir() else set()
    missing = [f"{stem}.xml" for stem in stems if f"{stem}.xml" not in there]
    if missing:
        raise UserError(
            f"{file}: {len(missing):,} of its {counted(len(stems), 'image')} have no annotation in {folder}: "
            f"{first(missing)}",
            next=f"put the annotations into {folder}, or take the images out of {file.name}",
        )
