"""Labels of ImageNet's validation images, which lie in one folder: the ground truth of the devkit beside them."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from barlowctl.data.labels.numbering import Labels, number_labels
from barlowctl.errors import UserError
from barlowctl.packages import required

TRUTH, SYNSETS = "ILSVRC2012_validation_ground_truth.txt", "meta.mat"
FILES = (TRUTH, SYNSETS)
_IMAGE = re.compile(r"ILSVRC2012_val_([0-9]{8})\.[A-Za-z]+")
_PLACES = ("", "data", "ILSVRC2012_devkit_t12/data", "ILSVRC2012_devkit_t12", "devkit/data", "devkit")


def labels_of(names: Sequence[str], folders: Sequence[Path]) -> Labels | None:
    """Classes of ILSVRC 2012's validation images, by their WordNet numbers; None: they are other images.

    Without the devkit there are none, and a note that says where it is looked for.

    Args:
        names: paths of the images. folders: where the devkit, or its two files, may lie, nearest first.

    Raises:
        UserError: SciPy is not installed, which reads the devkit's list of classes; or the devkit's files are damaged,
            or of other images.
    """
    numbers = [_IMAGE.fullmatch(os.path.basename(name)) for name in names]
    if not names or not all(numbers):
        return None
    data = next((place for folder in folders for inside in _PLACES if _holds(place := folder / inside)), None)
    if data is None:
        note = (
            "labels of ImageNet's validation images are in its devkit: unpack ILSVRC2012_devkit_t12.tar.gz beside them"
        )
        return Labels(np.full(len(names), -1, dtype=np.int64), [], (note,))
    truth, synsets = _truth(data / TRUTH), _synsets(data / SYNSETS)
    rows = [int(match[1]) for match in numbers if match]
    if beyond := next((row for row in rows if not 1 <= row <= len(truth)), None):
        raise UserError(
            f"{data / TRUTH} has {len(truth):,} lines, and an image is number {beyond:,}",
            next="unpack the archive again",
        )
    if unknown := next((number for number in truth if number not in synsets), None):
        raise UserError(
            f"{data / TRUTH} has class {unknown}, which {data / SYNSETS} lacks", next="unpack the archive again"
        )
    labels = number_labels([synsets[truth[row - 1]] for row in rows], str(data / TRUTH))
    return Labels(labels.numbers, labels.class_names, (*labels.notes, f"labels are those of {data / TRUTH}"))


def _holds(place: Path) -> bool:
    return (place / TRUTH).is_file() and (place / SYNSETS).is_file()


def _truth(file: Path) -> list[int]:
    """The class of each image, in the order of their numbers."""
    words = file.read_text(encoding="ascii", errors="replace").split()
    if wrong := next((word for word in words if not word.isdecimal()), None):
        raise UserError(f"{file} has '{wrong}'", allowed="a class number a line", next="unpack the archive again")
    return [int(word) for word in words]


def _synsets(file: Path) -> dict[int, str]:
    """Class number -> WordNet number ("n01440764"), as folders of the training images are called."""
    (scipy_io,) = required("ImageNet's devkit has its classes in a MATLAB file, and that needs SciPy", "scipy.io")
    try:
        rows = scipy_io.loadmat(file, squeeze_me=True)["synsets"]
        return {int(row[0]): str(row[1]) for row in rows.tolist()}
    except Exception as error:  # of a damaged file SciPy raises what it comes to
        raise UserError(
            f"{file} is not the devkit's list of classes: {type(error).__name__} {error}",
            next="unpack the archive again",
        ) from error
