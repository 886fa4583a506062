"""What a program has in hand as images by their number, and the labels that stand beside them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from barlowctl.data.labels.numbering import classes_of_columns
from barlowctl.data.sources.item import is_tensor
from barlowctl.data.sources.tables import Rows, column_of, plain
from barlowctl.errors import UserError, kind_of

IMAGES = (
    "a torch or torchvision data set; a list of images; an array (N, H, W) or (N, H, W, C), or a tensor (N, C, H, W); "
    "a tuple of these and their labels; a table of paths (a DataFrame); a dictionary of them by split, "
    "{'train': ..., 'test': ...}"
)


def with_labels(images: Any) -> tuple[Any, Sequence[Any] | None]:
    """What has images by their number, and their labels where these stand beside them: `(images, labels)`.

    Raises:
        UserError: no images.
    """
    if isinstance(images, tuple) and len(images) == 2:
        labels = _labels(images[1])
        labels = _columns(images[0], images[1]) if labels is None else labels
        if labels is not None:
            return _sequence(images[0]), labels
    return _sequence(images), None


def _columns(images: Any, values: Any) -> list[Any] | None:
    """Labels that are a column for each class, beside images; None: they are none, but an image beside another, say.

    Of several 1 in a row, or fractions, the rows themselves: several labels an image.
    """
    if len(getattr(values, "shape", ())) != 2 or len(getattr(images, "shape", (0, 0, 0))) < 3:
        return None
    if not hasattr(images, "__len__") or len(images) != len(values):
        return None
    rows = np.asarray(values.cpu() if is_tensor(values) else values)
    return classes_of_columns(rows) or rows.tolist()


def _labels(values: Any) -> list[Any] | None:
    """The labels of images beside them, a column of numbers or words; None: they are no such column."""
    values = column_of(values)
    shape: Any = getattr(values, "shape", ())
    if shape:
        column = int(np.prod(shape)) == shape[0]
        array = np.asarray(values.cpu() if is_tensor(values) else values) if column else None
        return None if array is None else array.ravel().tolist()
    if isinstance(values, str | bytes | Mapping) or not (hasattr(values, "__len__") and hasattr(values, "__getitem__")):
        return None
    if not len(values) or not _is_label(values[0]):  # a column of Hugging Face's is not read for nothing
        return None
    labels = list(values)
    return labels if all(map(_is_label, labels)) else None


def _is_label(value: Any) -> bool:
    return isinstance(value, str | int | float | np.generic | None)


def _sequence(images: Any) -> Any:
    """Images by their number: a list, an array, or what has __len__ and __getitem__.

    Raises:
        UserError: it is none, or a table whose columns cannot be read.
    """
    images = plain(images)
    if isinstance(images, Rows):
        return images
    if is_tensor(images) or isinstance(images, np.ndarray):
        if images.ndim not in (3, 4):
            raise UserError(f"{kind_of(images)} of shape {tuple(images.shape)} is no images", allowed=IMAGES)
        return list(images) if is_tensor(images) else images
    if isinstance(images, list | tuple):
        return list(images)
    if not isinstance(images, str | os.PathLike | bytes | Image.Image | Mapping):
        if hasattr(type(images), "__getitem__") and hasattr(type(images), "__len__"):
            return images
        if isinstance(images, Iterable):
            return list(images)
    has_items, has_length = (hasattr(type(images), name) for name in ("__getitem__", "__len__"))
    lacking = ", which has no __len__" if has_items and not has_length else ""
    raise UserError(f"images are {kind_of(images)}{lacking}", allowed=IMAGES)
