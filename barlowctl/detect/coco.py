"""Images with boxes and outlines in COCO's layout: one JSON file of a split's images, objects and classes.

Source: cocodataset.org, "Data format"; what detectron2's `load_coco_json` reads. Boxes there are left, top, width and
height, 0-based and continuous. Class numbers need not be contiguous: labels are positions among the sorted numbers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from barlowctl.data.names import written
from barlowctl.detect.annotations import Annotation
from barlowctl.detect.coco_json import CocoDocument, annotations_of, objects_by_image, read_document
from barlowctl.detect.image_files import Reading, require_files
from barlowctl.detect.left_out import LeftOut
from barlowctl.detect.objects import ObjectTable
from barlowctl.errors import UserError

_SPLITS = {"train": ("train2017", "train"), "test": ("val2017", "test", "val", "valid")}
"""Names of a split, the published one first."""
_FILES = (
    "annotations/instances_{}.json", "annotations/{}.json", "{}/_annotations.coco.json", "{}/annotations.json",
    "{}.json",
)  # fmt: skip
_FOLDERS = ("{}", "images/{}", "images", "")


class CocoImages:
    """See `DetectionImages`.

    Args:
        path: the folder, for messages. split: "train" or "test".
        document: the annotation file. folder: of the images. reading: how these become pixels.

    Raises:
        UserError: images that are not there, or an object whose box or outline is none.
    """

    def __init__(
        self, path: Path, split: str, document: CocoDocument, folder: Path, reading: Reading | None = None
    ) -> None:
        self.reading = reading or Reading()
        self.path, self.split, self.document, self._folder = path, split, document.path, folder
        require_files(folder, [image.file for image in document.images], document.path)
        self.classes = _distinct(document.categories)
        self.category_ids = tuple(document.categories)
        self._ids = [image.id for image in document.images]
        self._files = [image.file for image in document.images]
        self._sizes = [image.size or self._read_size(index, image.file) for index, image in enumerate(document.images)]
        problems = LeftOut()
        images, outlined = objects_by_image(document, self._sizes, problems)
        self._table = ObjectTable([[entry for entry, _ in image] for image in images], outlined=outlined)
        self.notices = problems.notices(document.path)

    def __len__(self) -> int:
        return len(self._ids)

    def name(self, index: int) -> str:
        return written(self._files[index])

    def image_id(self, index: int) -> int:
        return self._ids[index]

    def file(self, index: int) -> Path:
        return self._folder / self._files[index]

    def size(self, index: int) -> tuple[int, int]:
        return self._sizes[index]

    def image(self, index: int) -> np.ndarray:
        return self.reading.image(self._folder, self._files[index], index, self._sizes[index])

    def _read_size(self, index: int, file: str) -> tuple[int, int]:
        height, width = self.reading.image(self._folder, file, index, None).shape[:2]
        return height, width

    def annotation(self, index: int) -> Annotation:
        return self._table.annotation(index, self._ids[index])

    @property
    def objects(self) -> int:
        return len(self._table.labels)

    @cached_property
    def trainable(self) -> np.ndarray:
        return np.flatnonzero(self._table.trainable())

    def ground_truth(self) -> dict[str, Any]:
        """From the file, whose numbers are as they were written: boxes of float32 would move an IoU across a limit."""
        document = read_document(self.document)
        images, _ = objects_by_image(document, self._sizes, LeftOut())
        return {
            "images": [
                {"id": id, "file_name": self.name(index), "height": height, "width": width}
                for index, (id, (height, width)) in enumerate(zip(self._ids, self._sizes, strict=True))
            ],
            "annotations": list(annotations_of(images)),
            "categories": [{"id": id, "name": name} for id, name in zip(self.category_ids, self.classes, strict=True)],
        }


def open_coco(path: Path, split: str, reading: Reading | None = None) -> CocoImages:
    """Images in COCO's layout.

    Published: `annotations/instances_{train2017,val2017}.json` beside the folders train2017 and val2017. One's own: a
    file `train.json`, `annotations/train.json`, `annotations/instances_train.json`, `train/_annotations.coco.json` or
    `train/annotations.json`, its images in `train`, `images/train`, `images`, beside it or in the folder itself. The
    images to test on are called val2017, test, val or valid there.

    Args:
        split: "train" or "test". reading: see `CocoImages`; None: the defaults.

    Raises:
        UserError: another layout, a file or images that are missing, annotations that cannot be read.
    """
    path = path.expanduser()
    if not path.is_dir():
        raise UserError(f"'{path}' is no folder", next="name the benchmark's folder with --data")
    for name, file in annotation_files(path, split):
        document = read_document(file)
        return CocoImages(path, split, document, _image_folder(path, name, document), reading)
    names = " or ".join(_SPLITS[split])
    raise UserError(
        f"{path} has no annotations of its {'training' if split == 'train' else 'test'} images in COCO's layout",
        allowed=f"{', '.join(place.format('NAME') for place in _FILES)}, where NAME is {names}",
        next="name the folder that has them with --data\n"
        "unpack annotations_trainval2017.zip, train2017.zip and val2017.zip into one folder",
    )


def annotation_files(path: Path, split: str) -> Iterator[tuple[str, Path]]:
    """The files in which a folder may have a split's annotations, the first to be taken first; names of the split."""
    files = ((name, path / place.format(name)) for name in _SPLITS[split] for place in _FILES)
    return ((name, file) for name, file in files if file.is_file())


def _distinct(categories: dict[int, str]) -> tuple[str, ...]:
    """The names of the categories; one that several have is followed by the number."""
    times = Counter(categories.values())
    return tuple(name if times[name] == 1 else f"{name} ({number})" for number, name in categories.items())


def _image_folder(path: Path, name: str, document: CocoDocument) -> Path:
    """Where the images are: the first folder that has one of the first, middle and last."""
    places = [path / place.format(name) for place in _FOLDERS] + [document.path.parent]
    files = [image.file for image in document.images]
    looked_for = (files[0], files[len(files) // 2], files[-1])
    for place in places:
        if any((place / file).is_file() for file in looked_for):
            return place
    return next(place for place in places if place.is_dir())
