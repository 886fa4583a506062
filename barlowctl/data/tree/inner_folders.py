"""Classes of the folders that images lie in directly, where they lie several folders deep (PLACE/SPECIES/1.jpg)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from barlowctl.data.names import written
from barlowctl.data.tree.masks import mask_folders
from barlowctl.data.tree.splits import is_filler
from barlowctl.data.tree.trees import Tree

LISTED = 3
"""Names of classes that a message lists."""


def inner_folders(tree: Tree, place: tuple[str, ...], skipped: Iterable[str] = ()) -> set[str]:
    """Names of the folders below a place, at any depth, that images lie in directly.

    skipped: folders in the place; below it, those of masks are.
    """
    names: set[str] = set()
    for name in tree.folders(place):
        if name not in skipped:
            below = (*place, name)
            names |= inner_folders(tree, below, mask_folders(tree, below))
            if tree.loose(below):
                names.add(name)
    return names


def note_on_depth(folders: Iterable[Sequence[str]], classes: Sequence[str], command: str) -> str:
    """What to know where images lie deeper than the class folders; empty where nothing is doubtful.

    It is where all of them do, or most of the inner folders have names that stand in several classes; one name alone
    tells nothing apart, and such as "images" neither.

    Args:
        folders: of the images, each as its parts below the folder of the classes.
        command: what takes the inner folders for the classes.
    """
    distinct = [parts for parts in set(map(tuple, folders)) if parts]
    holders: dict[str, set[str]] = {}
    for parts in distinct:
        if len(parts) > 1 and not is_filler(parts[-1]):
            holders.setdefault(parts[-1], set()).add(parts[0])
    in_several = [name for name, of in holders.items() if len(of) > 1]
    all_deeper = all(len(parts) > 1 for parts in distinct)
    if len(holders) < 2 or not (all_deeper or 2 * len(in_several) > len(holders)):
        return ""
    several = f", {len(in_several):,} of them in several of the outer ones" if in_several else ""
    return (
        f"the classes are the {len(classes):,} outer folders ({some(classes)}), and the images lie in inner folders of "
        f"{len(holders):,} names ({some(sorted(holders))}){several}; to take the inner ones for classes: {command}"
    )


def some(names: Sequence[str]) -> str:
    """The first names, in one line."""
    return ", ".join(map(written, names[:LISTED])) + (", ..." if len(names) > LISTED else "")
