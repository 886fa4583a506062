"""A data set that a program has in hand, with its splits: where a name or a path of images is taken, it may stand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from barlowctl.data.sources.items import Items, title_of
from barlowctl.data.sources.listed import IMAGES
from barlowctl.data.sources.tables import plain
from barlowctl.data.tree.splits import SAME_SPLIT, SPLITS, split_folders
from barlowctl.errors import UserError


class InMemory:
    """Images by split, each read over when it is first asked for.

    Args:
        images: see `listed.IMAGES`; without splits they are the training split.
        ranged: see `Items`. classes: of the training split, where that is not among them.

    Raises:
        UserError: a dictionary whose keys are no splits, or a table whose columns cannot be read.
    """

    def __init__(self, images: Any, *, ranged: bool = False, classes: Sequence[str] = ()) -> None:
        self._ranged, self._classes, self._opened = ranged, classes, dict[str, Items]()
        images = plain(images)
        self.images = _by_split(images) if isinstance(images, Mapping) else {"train": images}
        self.title = title_of(next(iter(self.images.values())))

    def open(self, split: str) -> Items:
        """The images of a split; `val` and `test` stand in for one another.

        Raises:
            UserError: there is no such split, or as `Items`.
        """
        name = next((name for name in (split, SAME_SPLIT.get(split)) if name in self.images), None)
        if name is None:
            raise UserError(
                f"{self.title} has no {split} split",
                allowed=f"a dictionary with {split} in it: {{'train': train_set, 'test': test_set}}",
                next="barlowctl.pack(dataset, 'NAME', hold_out=20), then data='NAME'; or a dictionary of both",
            )
        if name not in self._opened:
            of_training = name != "train" and "train" in self.images
            classes = self.open("train").class_names if of_training else self._classes
            self._opened[name] = Items(self.images[name], name, title=self.title, classes=classes, ranged=self._ranged)
        return self._opened[name]


def _by_split(images: Mapping[Any, Any]) -> dict[str, Any]:
    folders = split_folders([str(key) for key in images])
    if not folders or len(folders) < len(images):
        raise UserError(
            f"a dictionary with the keys {', '.join(map(str, images)) or 'of none'} is no images by split",
            allowed=f"keys {', '.join(SPLITS)}; of images and labels beside one another a tuple, (images, labels)",
            next=f"one of: {IMAGES}",
        )
    keys = {str(key): key for key in images}
    return {split: images[keys[folders[split][0]]] for split in SPLITS if split in folders}
