"""Labelled images to measure on: two splits with one class list, and the names of their images."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from barlowctl.assemble.data import ImageSet, any_labelled, count_classes, open_images
from barlowctl.data import home
from barlowctl.data.beton.reader import Beton
from barlowctl.data.images.conversion import Choices
from barlowctl.data.loaders.plain import Pictures
from barlowctl.data.overlap import overlap
from barlowctl.data.sources.fingerprint import Fingerprint
from barlowctl.data.sources.in_memory import InMemory
from barlowctl.errors import UserError
from barlowctl.eval.classes import class_names

LABELLED = "class folders, or a packed file made from them"
LABELLED_IN_MEMORY = "a tuple (images, labels), or items that are an image and its label; class folders, a packed file"


@dataclass(frozen=True)
class Labelled:
    """A training and a test split with labels; or images of which only what needs no labels can be measured.

    Attributes:
        num_classes: 0: without labels; `test` is then `train` again, and nothing is measured on it.
        notes: what the user should know of them. opened: the training split with its images that have no label.
    """

    train: ImageSet
    test: ImageSet
    num_classes: int
    notes: tuple[str, ...] = ()
    opened: ImageSet | None = None

    @property
    def class_names(self) -> list[str]:
        """One name per class."""
        return class_names(self.train.class_names or self.test.class_names, self.num_classes)

    @property
    def fingerprints(self) -> dict[str, Fingerprint]:
        """What identifies each split."""
        return {name: split.fingerprint for name, split in self.splits.items()}

    @property
    def splits(self) -> dict[str, ImageSet]:
        """Each split by its name."""
        return {"train": self.train, "test": self.test} if self.num_classes else {"train": self.train}

    def as_dict(self) -> dict[str, Any]:
        """For the result: which images were used."""
        return {
            **{name: describe_image_set(split) for name, split in self.splits.items()},
            "classes": self.num_classes,
            **({"notes": list(self.notes)} if self.notes else {}),
        }


def open_labelled(data: str | InMemory, choices: Choices | None = None) -> Labelled:
    """The labelled splits of a data set, to measure on.

    Args:
        choices: how files become 8-bit pixels.

    Raises:
        UserError: a split is missing, or has no labels, or a class has no training image.
    """
    return check_labelled(open_images(data, "train", choices), open_images(data, "test", choices))


def open_with_or_without_labels(data: str | InMemory, choices: Choices | None = None) -> Labelled:
    """The labelled splits of a data set, or its training images alone where it has none that could be measured on.

    Args:
        choices: how files become 8-bit pixels.

    Raises:
        UserError: no such images, or one image alone.
    """
    train = open_images(data, "train", choices)
    if train.num_samples < 2:
        raise UserError(
            f"'{train.path}' has one image, and a measurement needs at least 2",
            next="name a folder with more images, or a data set of the data home, with --data",
        )
    if any_labelled(train):
        with suppress(UserError):  # what the labels are not fit for is not measured
            return check_labelled(train, open_images(data, "test", choices))
    return Labelled(train, train, num_classes=0)


def check_labelled(train: ImageSet, test: ImageSet) -> Labelled:
    """Two splits as `Labelled`, once they are fit for it: those of their images that have a label."""
    check_comparable(train, test)
    notes: list[str | None] = [check_distinct(train, test)]
    opened = train
    (train, of_train), (test, of_test) = with_labels(train, "training"), with_labels(test, "test")
    notes += [of_train, of_test]
    if bool(train.class_names) != bool(test.class_names):
        nameless = test if train.class_names else train
        notes.append(f"the classes of '{nameless.path}' have no names: equal numbers are taken as equal classes")
    if len(test_classes := np.unique(test.labels)) == 1:
        notes.append(
            f"all test images are of one class, number {test_classes[0]}: the accuracy is the recall of this "
            "class alone"
        )
    data = Labelled(train, test, max(count_classes(train), count_classes(test)), tuple(filter(None, notes)), opened)
    if data.num_classes < 2:
        raise UserError(
            f"'{train.path}' has one class, and a measurement needs at least 2",
            allowed="a folder for each class, or labels in the data",
            next="name labelled images with --data",
        )
    if (lacking := _lacking(data, train)) is not None:
        raise UserError(
            f"'{train.path}': {lacking[0]:,} of {data.num_classes:,} classes have no training image: {lacking[1]}",
            next="put images into these class folders, or remove the folders",
        )
    if len(test_classes) > 1 and (lacking := _lacking(data, test)) is not None:
        note = f"no test image of {lacking[0]:,} of {data.num_classes:,} classes: the accuracy is that of the others"
        return replace(data, notes=(*data.notes, f"{note}; there is none of {lacking[1]}"))
    return data


def _lacking(data: Labelled, split: ImageSet) -> tuple[int, str] | None:
    """How many classes have no image in a split, and the names of the first ones; None: all have some."""
    missing = np.setdiff1d(np.arange(data.num_classes), split.labels)
    if not len(missing):
        return None
    names = ", ".join(f"'{data.class_names[label]}'" for label in missing[:5])
    return len(missing), names + (", ..." if len(missing) > 5 else "")


def check_comparable(train: ImageSet, test: ImageSet) -> None:
    """That both splits have labels, and that equal numbers mean equal classes.

    Raises:
        UserError: one has none, or their lists of classes differ.
    """
    for split, source in (("train", train), ("test", test)):
        if not any_labelled(source):
            why = "".join(f"; {note}" for note in source.scan_report.notes)
            raise UserError(
                f"the {split} images in '{source.path}' have no labels, and a measurement needs them{why}",
                allowed=LABELLED_IN_MEMORY if getattr(source, "in_memory", False) else LABELLED,
                next="name labelled images with --data",
            )
    shared = min(len(train.class_names), len(test.class_names))
    for number, (train_class, test_class) in enumerate(zip(train.class_names, test.class_names, strict=False)):
        if train_class != test_class:
            raise UserError(
                f"'{train.path}' and '{test.path}' have different classes: number {number} is '{train_class}' and "
                f"'{test_class}' ({len(train.class_names)} and {len(test.class_names)} classes)",
                next="pack both splits from one dataset folder, so that they share its class list",
            )
    longer = train if len(train.class_names) > len(test.class_names) else test
    if 0 < shared < len(longer.class_names) and not all(name.isdecimal() for name in longer.class_names):
        raise UserError(
            f"'{train.path}' and '{test.path}' have different classes ({len(train.class_names)} and "
            f"{len(test.class_names)})",
            next="pack both splits from one dataset folder, so that they share its class list",
        )


def with_labels(source: ImageSet, what: str) -> tuple[ImageSet, str | None]:
    """Those images of a source that have a label, and what to know where some have none."""
    rows = np.flatnonzero(source.labels >= 0)
    lacking = source.num_samples - len(rows)
    if not lacking:
        return source, None
    return source.pick(rows), f"{lacking:,} of {source.num_samples:,} {what} images have no label and are left out"


def check_distinct(train: ImageSet, test: ImageSet) -> str | None:
    """That the test images are not the training images; returns what to know where some are.

    Raises:
        UserError: they are the same files, by whatever path, or one set is a copy of the other.
    """
    shared = None if train.fingerprint == test.fingerprint else overlap(train, test)
    if shared is None or (shared.complete and (shared.files or train.num_samples == test.num_samples)):
        one_place = train.path.absolute() == test.path.absolute()
        where = f"'{train.path}'" if one_place else f"'{train.path}' and '{test.path}'"
        in_memory = isinstance(train, Pictures) and train.in_memory
        made = home.held_out(train.path) if one_place and not in_memory else []
        raise UserError(
            f"training and test images are the same, {where}",
            allowed=f"a dataset, or a folder, with a train and a test (or val) split{home.OR_HELD_OUT if made else ''}",
            next="\n".join(made) or "name images with a train and a test split with --data",
        )
    if not shared.images:
        return None
    share = "all" if shared.complete else f"{shared.images:,} of"
    return (
        f"{share} {shared.looked_at:,} test images that were compared are training images too: on these the accuracy "
        "says nothing about new images"
    )


def describe_image_set(source: ImageSet) -> dict[str, Any]:
    """Which images these are: path (of what a program gave its class), number, content hash or digest of names and
    sizes, and what there was not read.
    """
    place = "in_memory" if isinstance(source, Pictures) and source.in_memory else "path"
    metadata: dict[str, Any] = {place: str(source.path), "images": source.num_samples, **source.scan_report.nonempty()}
    if isinstance(source, Beton):
        metadata["content_hash"] = source.content_hash
    else:
        metadata["digest"] = source.fingerprint.digest
    return metadata


def image_names(source: ImageSet, split: str) -> list[str]:
    """What to call each image, in one line (`data.names.written`): its path below the folder, or `split[index]` in a
    packed file without names.
    """
    if isinstance(source, Beton) and not source.has_names:
        return [f"{split}[{index}]" for index in range(source.num_samples)]
    return [source.name_of(index) for index in range(source.num_samples)]
