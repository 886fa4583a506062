"""A detection set as it lies on the disk: images to train on and to test on, in VOC's or in COCO's layout."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Literal, get_args

from barlowctl.detect.annotations import DetectionImages
from barlowctl.detect.coco import CocoImages, annotation_files, open_coco
from barlowctl.detect.image_files import Reading
from barlowctl.detect.left_out import first
from barlowctl.detect.voc import VocImages, is_voc, open_voc
from barlowctl.errors import UserError

Layout = Literal["voc", "coco"]


def check_layout(layout: Layout, path: Path) -> Layout:
    """The layout of a folder's training images, as far as names of files say: `layout` where that is not another.

    Raises:
        UserError: it is YOLO's, which is not read.
    """
    present: list[Layout] = [other for other in get_args(Layout) if is_there(other, path)]
    if not present and (labels := next(_yolo_labels(path), None)):
        raise UserError(
            f"{path} has boxes in YOLO's layout ({labels.relative_to(path)}), which is not read",
            allowed="COCO's layout or VOC's (docs/detection.md)",
            next="write them as annotations/instances_train.json: bbox is left, top, width and height in pixels",
        )
    return layout if layout in present or not present else present[0]


def is_there(layout: Layout, path: Path) -> bool:
    """Whether a folder's training images are in a layout, as far as names of files say."""
    return is_voc(path) if layout == "voc" else any(annotation_files(path, "train"))


def _yolo_labels(path: Path) -> Iterator[Path]:
    """Text files in a folder `labels`, by itself, by split, or within a split's folder."""
    return chain.from_iterable(path.glob(place) for place in ("labels/*.txt", "labels/*/*.txt", "*/labels/*.txt"))


def open_detection(
    layout: Layout, path: Path, reading: Reading | None = None
) -> tuple[VocImages, VocImages] | tuple[CocoImages, CocoImages]:
    """The images to train on and those to test on; both have the same classes.

    Test images that are trained on as well, by the same files, are counted in the latter's `notices`.

    Args:
        reading: how files become pixels; None: the defaults.

    Raises:
        UserError: another layout, something is missing or broken, or the classes differ.
    """
    if layout == "voc":
        voc = open_voc(path, "train", None, reading)
        voc_test = open_voc(path, "test", voc.classes, reading)
        _note_shared_files(voc, voc_test)
        return voc, voc_test
    coco, coco_test = open_coco(path, "train", reading), open_coco(path, "test", reading)
    training, test = (dict(zip(images.category_ids, images.classes, strict=True)) for images in (coco, coco_test))
    differing = sorted(id for id in training.keys() | test.keys() if training.get(id) != test.get(id))
    if differing:
        example = differing[0]
        raise UserError(
            f"{coco_test.document.name} has other categories than {coco.document.name}: {len(differing)} differ, "
            f"the first is {example}: {test.get(example, 'not there')} and {training.get(example, 'not there')}",
            next="give both files the same list of categories",
        )
    _note_shared_files(coco, coco_test)
    return coco, coco_test


def _note_shared_files(training: DetectionImages, test: DetectionImages) -> None:
    files = {training.file(index).resolve() for index in range(len(training))}
    names = [test.name(index) for index in range(len(test)) if test.file(index).resolve() in files]
    if names:
        test.notices.append(
            f"{test.path}: {len(names):,} of the {len(test):,} test images are trained on: {first(names)}"
        )
