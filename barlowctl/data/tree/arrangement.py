"""What the folders of a tree of images mean: splits, classes, or nothing; on a disk and in archives alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from barlowctl.amounts import counted
from barlowctl.data.names import written
from barlowctl.data.tree.class_names import lacking, normalized, refuse_look_alikes
from barlowctl.data.tree.inner_folders import inner_folders
from barlowctl.data.tree.masks import NestedMasks, mask_folders
from barlowctl.data.tree.scan_report import ScanReport
from barlowctl.data.tree.splits import choose, is_filler, split_folders
from barlowctl.data.tree.trees import Tree

BESIDE, MASKS = "folders of images beside the split folders", "folders of masks and annotations beside the images"
"""What the folders in `Arrangement.beside` and `masks` are called in a `ScanReport`."""

DEEPEST = 6
"""How far down splits and classes are looked for below folders that hold but one folder."""


@dataclass(frozen=True)
class Arrangement:
    """Where the images of a split lie, and which folders are classes.

    root: the place that images are looked for in, at any depth.    classes: names of the class folders, as they are on
    the disk, in the order of their labels; () for a pile.    inside: class folder -> its folder of the split, where
    splits lie within the classes.    notes: choices that were made.    beside: folders of images that are not read, as
    they are neither splits nor classes.    masks: folders of masks and annotations beside those of images.
    skipped: names of those directly in `root`.    nested: those further down.    inner: a class is the folder that an
    image lies in, at any depth.    pile: what is to be said of folders that lie beside more images than they hold, and
    are no classes.
    """

    root: tuple[str, ...]
    classes: tuple[str, ...] = ()
    inside: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()
    masks: tuple[str, ...] = ()
    skipped: frozenset[str] = frozenset()
    nested: NestedMasks | None = field(default=None, compare=False)
    inner: bool = False
    pile: str = ""

    @property
    def class_names(self) -> list[str]:
        """One line of text each."""
        return [written(name) for name in self.classes]

    def labeller(self) -> Callable[[Sequence[str]], int | None]:
        """A function of the parts of an image's path below `root`: its label, -1 for none, None: not to be read."""
        labels = {normalized(name): label for label, name in enumerate(self.classes)}

        def label(parts: Sequence[str]) -> int | None:
            if self.skipped and parts[0] in self.skipped and len(parts) > 1:
                return None
            if self.nested is not None and self.nested.hold(parts):
                return None
            if self.inside and (len(parts) < 3 or self.inside.get(parts[0]) != parts[1]):
                return None
            of_split = self.inside and len(parts) == 3  # CLASS/train/1.jpg
            folder = parts[-2] if self.inner and not of_split and len(parts) > 1 else parts[0]
            return labels.get(normalized(folder), -1) if len(parts) > 1 else -1

        return label


def arrange(tree: Tree, split: str, where: str, *, common: bool = False, inner: bool = False) -> Arrangement | None:
    """What the folders of a tree mean for a split; None where the tree has splits, but not this one.

    Folders called like splits are splits (`splits.split_folders`), at the top, below folders that hold but one folder,
    or within every class. Else two or more folders are classes if they hold more images than lie beside them. One
    folder alone is a class, unless it only holds others ("images", or class folders of its own).

    Args:
        where: the tree's name, for messages.
        common: an archive: folders that hold everything are no classes.
        inner: the folders that images lie in directly are the classes, not the outermost ones.

    Raises:
        UserError: two folders of one split, class folders that the training split lacks or that read alike.
    """
    arrangement = _arrange(tree, split, where, common, inner)
    if arrangement is None:
        return None
    places = [arrangement.root[:depth] for depth in range(len(arrangement.root) + 1)]
    masks = ["/".join((*place, name)) for place in places for name in sorted(mask_folders(tree, place))]
    skipped = frozenset(mask_folders(tree, arrangement.root))
    arrangement = replace(arrangement, masks=tuple(masks), skipped=skipped, nested=NestedMasks(tree, arrangement.root))
    return _by_inner(tree, arrangement, split, where, common) if inner and split != "unlabelled" else arrangement


def _arrange(tree: Tree, split: str, where: str, common: bool, inner: bool) -> Arrangement | None:
    place, splits = _find_splits(tree)
    if not splits:
        crossed = _crossed(tree, place)
        return _within(tree, place, crossed, split, where) if crossed else _classes(tree, (), where, None, common)
    chosen = choose(splits, split, where)
    if chosen is None:
        return None
    training_classes: Sequence[str] | None = None
    train = choose(splits, "train", where) if splits.get("train") and not inner else None
    if train not in (None, chosen):
        training_classes = _classes(tree, (*place, str(train)), where, None, common=False).classes or None
    root = (*place, chosen)
    inside = Arrangement(root)
    if split != "unlabelled":
        inside = _classes(tree, root, "/".join((where, *root)), training_classes, common=False)
    named = {name for names in splits.values() for name in names}
    twins = [name for name in splits.get(split, ()) if name != chosen]
    others = [name for name in _folders(tree, place) if name not in named] + twins
    notes = [f"'{written(chosen)}' is taken for the {split} split, and not '{written(name)}'" for name in twins]
    if loose := tree.loose(place):
        notes.append(f"{images(loose)} beside the split folders {'are' if loose > 1 else 'is'} not read")
    return Arrangement(
        inside.root,
        inside.classes,
        notes=(*notes, *inside.notes),
        beside=tuple("/".join((*place, name)) for name in others),
        pile=inside.pile,
    )


def _by_inner(tree: Tree, arrangement: Arrangement, split: str, where: str, common: bool) -> Arrangement:
    names = _inner_classes(tree, arrangement)
    training = _arrange(tree, "train", where, common, inner=True) if split != "train" else None
    if training is not None and (training.root, training.inside) != (arrangement.root, arrangement.inside):
        trained, others = _inner_classes(tree, training), sorted(names)
        if unknown := [name for name in others if trained and name not in trained]:
            raise lacking("/".join((where, *arrangement.root)), unknown[0], len(trained))
        names = trained
    notes = _beside(tree.loose(arrangement.root)) if names and arrangement.pile else []
    return replace(arrangement, classes=tuple(sorted(names)), inner=True, pile="", notes=(*arrangement.notes, *notes))


def _inner_classes(tree: Tree, arrangement: Arrangement) -> set[str]:
    root, skipped = arrangement.root, arrangement.skipped
    if not arrangement.inside:
        return set(map(normalized, inner_folders(tree, root, skipped)))
    names: set[str] = set()
    for name, split in arrangement.inside.items():
        names |= inner_folders(tree, (*root, name, split)) | ({name} if tree.loose((*root, name, split)) else set())
    return set(map(normalized, names))


def report_skipped(arrangement: Arrangement, report: ScanReport) -> None:
    """Report the folders of images that are not read, once all images have been labelled."""
    for name in arrangement.beside:
        report.skip(BESIDE, name)
    nested = () if arrangement.nested is None else sorted(arrangement.nested.places)
    for name in (*arrangement.masks, *("/".join((*arrangement.root, *place)) for place in nested)):
        report.skip(MASKS, name)


def split_names(tree: Tree) -> list[str]:
    """The folders of the split layout, or of that within the classes; [] where a tree has no splits."""
    place, splits = _find_splits(tree)
    if splits:
        return sorted(name for names in splits.values() for name in names)
    return sorted({name for inner in _crossed(tree, place).values() for names in inner.values() for name in names})


def splits_of(tree: Tree) -> set[str]:
    """The splits of the split layout, or of that within the classes; empty where a tree has none."""
    place, splits = _find_splits(tree)
    return set(splits) or {split for inner in _crossed(tree, place).values() for split in inner}


def _folders(tree: Tree, place: tuple[str, ...]) -> list[str]:
    """The folders of images in a place, without those of masks."""
    masks = mask_folders(tree, place)
    return [name for name in tree.folders(place) if name not in masks]


def images(count: int) -> str:
    """A number of images in words."""
    return f"{counted(count, 'image')}"


def _find_splits(tree: Tree) -> tuple[tuple[str, ...], dict[str, list[str]]]:
    """The place of the split folders and which they are; else the first place with more than one folder, and {}."""
    place: tuple[str, ...] = ()
    for _ in range(DEEPEST):
        folders = _folders(tree, place)
        if splits := split_folders(folders):
            return place, splits
        if len(folders) != 1 or tree.loose(place):
            break
        place = (*place, folders[0])
    return place, {}


def _crossed(tree: Tree, place: tuple[str, ...]) -> dict[str, dict[str, list[str]]]:
    """Class folder -> its split folders, where every folder in a place has them and some have a training split."""
    folders = _folders(tree, place)
    if len(folders) < 2 or tree.loose(place):
        return {}
    splits = {}
    for name in folders:
        splits[name] = split_folders(_folders(tree, (*place, name)))
        if not splits[name]:
            return {}
    return splits if any("train" in inner for inner in splits.values()) else {}


def _within(
    tree: Tree, place: tuple[str, ...], crossed: dict[str, dict[str, list[str]]], split: str, where: str
) -> Arrangement | None:
    inside = {}
    for name, splits in crossed.items():
        if (chosen := choose(splits, split, f"{where}/{name}")) is not None:
            inside[name] = chosen
    if not inside:
        return None
    refuse_look_alikes(where, list(crossed))
    return Arrangement(place, tuple(sorted(crossed)), inside, ("each class folder has its own splits",))


def _classes(
    tree: Tree, place: tuple[str, ...], where: str, training_classes: Sequence[str] | None, common: bool
) -> Arrangement:
    """Class folders at or below a place. training_classes: the classes of the training split, if it is another one."""
    notes: list[str] = []
    for _ in range(DEEPEST):
        folders = _folders(tree, place)
        loose = tree.loose(place) if folders else 0  # of a pile without folders the number does not matter
        if (
            len(folders) != 1
            or loose
            or (training_classes and normalized(folders[0]) in {normalized(name) for name in training_classes})
        ):
            break
        only = (*place, folders[0])
        below = _folders(tree, only)
        if not (common or is_filler(folders[0]) or (len(below) > 1 and not tree.loose(only))):
            break
        if not common and below:
            notes = [f"classes are the folders in '{written('/'.join(only))}'"] if len(below) > 1 else []
        place = only
    if training_classes is not None and folders:
        return _classes_as_in_training(tree, place, where, training_classes, notes)
    inside = tree.count(place) - loose if loose and folders else 0
    if not folders or (common and len(folders) < 2) or (loose and (len(folders) < 2 or inside <= loose)):
        return Arrangement(place, pile=_of_pile(folders, loose, inside))
    refuse_look_alikes(where, folders)
    return Arrangement(place, tuple(folders), notes=(*notes, *_beside(loose)))


def _classes_as_in_training(
    tree: Tree, place: tuple[str, ...], where: str, training_classes: Sequence[str], notes: Sequence[str]
) -> Arrangement:
    folders, loose = _folders(tree, place), tree.loose(place)
    trained = {normalized(name) for name in training_classes}
    unknown = [name for name in folders if normalized(name) not in trained]
    if len(unknown) == len(folders) and loose >= tree.count(place) - loose:
        return Arrangement(place, pile=_of_pile(folders, loose, tree.count(place) - loose))
    if unknown:
        raise lacking(where, unknown[0], len(training_classes))
    refuse_look_alikes(where, folders)
    return Arrangement(place, tuple(training_classes), notes=(*notes, *_beside(loose)))


def _beside(loose: int) -> list[str]:
    if not loose:
        return []
    return [f"{images(loose)} beside the class folders: kept without a label"]


def _of_pile(folders: Sequence[str], loose: int, inside: int) -> str:
    if len(folders) < 2 or not loose:
        return ""
    return f"{images(loose)} beside {len(folders)} folders with {inside:,}: taken for a pile, no folder for a class"
