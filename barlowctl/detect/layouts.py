"""A detection set as it lies on the disk: images to train on and to test on, in VOC's or in COCO's layout."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from barlowctl.detect.annotations import DetectionImages
from barlowctl.detect.coco import CocoImages, open_coco
from barlowctl.detect.left_out import first
from barlowctl.detect.voc import VocImages, open_voc
from barlowctl.errors import UserError

Layout = Literal["voc", "coco"]


def open_detection(layout: Layout, path: Path) -> tuple[VocImages, VocImages] | tuple[CocoImages, CocoImages]:
    """The images to train on and those to test on; both have the same classes.

    Test images that are trained on as well, by the same files, are counted in the latter's `notices`.

    Raises:
        UserError: another layout, something is missing or broken, or the classes differ.
    """
    if layout == "voc":
        voc = open_voc(path, "train")
        voc_test = open_voc(path, "test", voc.classes)
        _note_shared_files(voc, voc_test)
        return voc, voc_test
    coco, coco_test = open_coco(path, "train"), open_coco(path, "test")
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
