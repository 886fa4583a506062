"""Annotated images of a task: where they are, and what identifies them."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from barlowctl.data import home
from barlowctl.data.images.conversion import Choices, Conversion
from barlowctl.data.sources.benchmark_layouts import refuse_others
from barlowctl.data.sources.lacking import Lacking
from barlowctl.data.sources.picture import Picture, Source
from barlowctl.data.sources.sample import conversion_of
from barlowctl.data.tree.regular import read_regular
from barlowctl.datasets import DATASETS
from barlowctl.detect.annotations import DetectionImages
from barlowctl.detect.image_files import Reading
from barlowctl.detect.layouts import Layout, check_layout, is_there, open_detection
from barlowctl.detect.regions import pycocotools_mask
from barlowctl.errors import UserError

LAYOUTS: dict[str, Layout] = {"voc0712": "voc", "coco": "coco"}


class _Files(Source):
    """The files of annotated images, without what is annotated: what ranges are measured of."""

    kind, class_names = "annotated images", []

    def __init__(self, images: DetectionImages) -> None:
        self.path, self.split, self._images = images.path, images.split, images

    def __len__(self) -> int:
        return len(self._images)

    def describe(self, index: int) -> tuple[str, int]:
        return self._images.name(index), -1

    def __getitem__(self, index: int) -> Picture:
        return Picture(*self.describe(index), read_regular(self._images.file(index)))


def open_images(task: str, data: str | None, choices: Choices | None = None) -> tuple[DetectionImages, DetectionImages]:
    """Images to train and to test on, in the task's layout: as published, or one's own with any classes.

    A range that is measured is that of the training images.

    Args:
        data: the folder; None: the one of the task's name in the data home.
        choices: how files become 8-bit pixels; None: the defaults.

    Raises:
        UserError: no such folder, another layout, annotations that cannot be used, or nothing to train on.
    """
    path = Path(data).expanduser() if data is not None else home.data_home() / task
    if not path.is_dir():
        raise UserError(
            f"'{path}' is no folder" if data is not None else f"{task} is not in the data home ({path})",
            allowed="the benchmark's folder as published, or one's own in that layout",
            next="name the benchmark's folder with --data",
        )
    if task == "coco":
        pycocotools_mask()  # what outlines and the metric need is missed before anything is trained
    layout = LAYOUTS[task]
    if (actual := check_layout(layout, path)) != layout:
        other = next(name for name, of in LAYOUTS.items() if of == actual)
        raise UserError(
            f"{path} is in {actual.upper()}'s layout, and the task {task} reads {layout.upper()}'s",
            next=f"--task {other}",
        )
    if not is_there(layout, path):
        refuse_others(task, path)
    choices = choices or Choices()
    training, test = open_detection(layout, path, Reading(Conversion(choices)))
    conversion = conversion_of(_Files(training), choices)
    for images in (training, test):
        images.reading = Reading(conversion, Lacking(_Files(images), conversion).of)
    if not len(training.trainable):
        raise UserError(
            f"{training.path}: none of the {len(training):,} training images has an object to train on",
            allowed="objects that are no crowds",
            next="annotate the objects of the training images",
        )
    return training, test


def are_published(task: str, images: DetectionImages, tested_on: DetectionImages) -> bool:
    """Whether these are the benchmark's images, as far as their numbers say: not one's own in its layout."""
    dataset = DATASETS[task]
    numbers = (len(images), len(tested_on), len(images.classes))
    return numbers == (dataset.images["train"], dataset.held_out, dataset.classes)


def digest(images: DetectionImages) -> str:
    """SHA-256 of classes, names, sizes and objects, in hexadecimal; pixels are not read."""
    value = hashlib.sha256(repr((images.classes, images.category_ids)).encode())
    for index in range(len(images)):
        annotation = images.annotation(index)
        value.update(repr((images.name(index), images.size(index), annotation.image_id)).encode())
        for array in (annotation.boxes, annotation.labels, annotation.difficult, annotation.crowd):
            value.update(np.ascontiguousarray(array).tobytes())
    return value.hexdigest()
