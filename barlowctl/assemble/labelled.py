"""Labelled images to measure on: two splits with one class list, and the names of their images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from barlowctl.assemble.data import Source, count_classes, has_labels, open_source
from barlowctl.data.beton import Beton
from barlowctl.errors import UserError
from barlowctl.eval.classes import class_names
from barlowctl.recipe.schema import Recipe


@dataclass(frozen=True)
class Labelled:
    """A training and a test split with labels."""

    train: Source
    test: Source
    num_classes: int

    @property
    def class_names(self) -> list[str]:
        """One name per class."""
        return class_names(self.train.class_names or self.test.class_names, self.num_classes)

    def facts(self) -> dict[str, Any]:
        """For the result: which images were used."""
        return {
            "train": source_facts(self.train),
            "test": source_facts(self.test),
            "classes": self.num_classes,
        }


def open_labelled(recipe: Recipe, data: str | None) -> Labelled:
    """The labelled splits to probe on.

    Raises:
        UserError: no data named, a split is missing, or has no labels, or a class has no training image.
    """
    if data is None and not recipe.data.dataset:
        raise UserError(
            "this network has no data of its own",
            allowed="a dataset in the data home, a folder with train/ and test/",
            next="--data DATASET",
        )
    return check_labelled(open_source(recipe, "train", data), open_source(recipe, "test", data))


def check_labelled(train: Source, test: Source) -> Labelled:
    """Two splits as `Labelled`, once they are fit for it."""
    for split, source in (("train", train), ("test", test)):
        if not has_labels(source):
            raise UserError(
                f"the {split} images in '{source.path}' have no labels, and a probe needs them",
                allowed="class folders, or a packed file made from them",
                next="--data DATASET",
            )
    if _same_images(train, test):
        raise UserError(
            f"training and test images are the same, '{train.path}'",
            allowed="a dataset, or a folder, with a train and a test (or val) split",
            next="--data FOLDER",
        )
    if train.class_names and test.class_names and train.class_names != test.class_names:
        raise UserError(
            f"'{train.path}' and '{test.path}' have different classes ({len(train.class_names)} and "
            f"{len(test.class_names)})",
            next="pack both splits from one dataset folder, so that they share its class list",
        )
    data = Labelled(train, test, max(count_classes(train), count_classes(test)))
    if data.num_classes < 2:
        raise UserError(f"'{train.path}' has one class, and a probe needs at least 2")
    present = np.unique(train.labels)
    if len(present) < data.num_classes:
        missing = np.setdiff1d(np.arange(data.num_classes), present)
        names = ", ".join(f"'{data.class_names[label]}'" for label in missing[:5])
        raise UserError(
            f"'{train.path}': {len(missing)} of {data.num_classes} classes have no training image: {names}",
            next="put images into these class folders, or remove the folders",
        )
    return data


def _same_images(train: Source, test: Source) -> bool:
    if train.path != test.path or train.num_samples != test.num_samples:
        return False
    if isinstance(train, Beton) or isinstance(test, Beton):
        return True
    return all(train.name_of(index) == test.name_of(index) for index in (0, train.num_samples - 1))


def source_facts(source: Source) -> dict[str, Any]:
    """Which images these are: path, number, the packed file's hash, and what lies there and was not read."""
    facts: dict[str, Any] = {"path": str(source.path), "images": source.num_samples, **source.account.found()}
    if isinstance(source, Beton):
        facts["content_hash"] = source.content_hash
    return facts


def image_names(source: Source, split: str) -> list[str]:
    """What to call each image, in one line (`data.names.written`): its path below the folder, or `split[index]` in a
    packed file without names.
    """
    if isinstance(source, Beton) and not source.has_names:
        return [f"{split}[{index}]" for index in range(source.num_samples)]
    return [source.name_of(index) for index in range(source.num_samples)]
