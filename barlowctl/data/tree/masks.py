"""Folders of masks and annotations beside those of images: no classes, and no images to train on, at any depth."""

from __future__ import annotations

import re
from collections.abc import Sequence

from barlowctl.amounts import counted
from barlowctl.data.names import written
from barlowctl.data.tree.splits import is_filler, words_of
from barlowctl.data.tree.trees import Tree

_OF_MASKS = frozenset((
    "mask", "masks", "label", "labels", "annotation", "annotations", "gt", "groundtruth", "ground", "truth", "seg",
    "segm", "segmentation", "segmentations", "depth", "trimap", "trimaps", "target", "targets", "matte", "mattes",
    "instances", "panoptic",
))  # fmt: skip
"""Words in the names of folders whose images are of images, where a folder beside them holds those."""

_OF_A_MASK = re.compile(r"(.+)[ _.-](?:masks?|segm?|segmentation|gt|groundtruth)\.\w+", re.IGNORECASE)
"""The name of an image whose beginning is the name of another one: 1_mask.png beside 1.tif."""


def note_on_masks(names: Sequence[str]) -> str:
    """What to know of images among others that are named as their masks; empty where there are none."""
    named = {match[1]: name for name in names if (match := _OF_A_MASK.fullmatch(name))}
    stems = {name.rpartition(".")[0] for name in names} if named else set()
    masks = sorted(named[stem] for stem in named.keys() & stems)
    if not masks:
        return ""
    some = ", ".join(map(written, masks[:3])) + (", ..." if len(masks) > 3 else "")
    return (
        f"{counted(len(masks), 'image')} named as masks of others ({some}), and read as images; "
        "in a folder of their own called masks they are left out"
    )


def mask_folders(tree: Tree, place: tuple[str, ...]) -> set[str]:
    """Folders of masks and the like, where one beside them is called after images, or there are but loose images."""
    folders = tree.folders(place)
    masks = {name for name in folders if _of_masks(name)}
    beside = any(is_filler(name) for name in folders if name not in masks)
    return masks if masks and (beside or (len(masks) == len(folders) and tree.loose(place))) else set()


class NestedMasks:
    """Those below the folders in a place, looked for where a path has such a name.

    Attributes:
        places: those that images were in, from the place on.
    """

    def __init__(self, tree: Tree, root: tuple[str, ...]) -> None:
        self.places: set[tuple[str, ...]] = set()
        self._tree, self._root = tree, root
        self._known: dict[tuple[str, ...], bool] = {}

    def hold(self, parts: Sequence[str]) -> bool:
        """Whether an image is in one, by the parts of its path below the place."""
        folder = tuple(parts[:-1])
        if folder not in self._known:
            self._known[folder] = self._is_within(folder)
        return self._known[folder]

    def _is_within(self, folder: tuple[str, ...]) -> bool:
        for depth in range(1, len(folder)):
            if _of_masks(folder[depth]) and folder[depth] in mask_folders(self._tree, self._root + folder[:depth]):
                self.places.add(folder[: depth + 1])
                return True
        return False


def _of_masks(name: str) -> bool:
    return not _OF_MASKS.isdisjoint(words_of(name))
