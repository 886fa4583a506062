"""The splits of a data set: their names, and how folders, shards and columns call them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from barlowctl.data.names import written
from barlowctl.errors import UserError

SPLITS = ("train", "val", "test", "unlabelled")
SAME_SPLIT = {"val": "test", "test": "val"}
"""Most data sets have one held-out part, under either name: each stands in for the other."""

_WORDS = {
    "train": ("train", "training", "trn", "trainval"),
    "val": ("val", "valid", "validation", "validate", "dev", "devel", "development", "eval", "evaluation", "holdout"),
    "test": ("test", "testing", "tst"),
    "unlabelled": ("unlabelled", "unlabeled", "unlabel", "unsupervised", "unsup"),
}
"""What a split is called, best first, in whatever case: also with what `_FILLERS` has before or after it."""

_SHORT = {"tr": "train", "va": "val", "te": "test", "ts": "test"}
"""Understood where all folders are named so, for they are languages too."""

_FILLERS = frozenset((
    "set", "sets", "data", "dataset", "datasets", "split", "splits", "image", "images", "img", "imgs", "picture",
    "pictures", "pics", "photo", "photos", "file", "files", "sample", "samples", "folder", "dir", "part", "parts",
    "the", "of", "for", "jpg", "jpeg", "png", "jpegimages", "raw", "input", "inputs", "clean", "resized",
    "rgb", "colour", "color", "original", "originals",
))  # fmt: skip
_ROOT = re.compile(
    "(?:{fillers})?({words})(?:{fillers})?".format(
        words="|".join(sorted((word for words in _WORDS.values() for word in words), key=len, reverse=True)),
        fillers="|".join(sorted(_FILLERS, key=len, reverse=True)),
    )
)
_SPLIT_OF = {word: split for split, words in _WORDS.items() for word in words}


def words_of(name: str) -> list[str]:
    """The words in a name, in small letters: "ILSVRC2012_img_train" is ilsvrc, img, train; single letters are none."""
    parted = re.sub("(?<=[a-z])(?=[A-Z])", " ", name)
    return re.findall("[a-z]{2,}", parted.lower())


def is_filler(name: str) -> bool:
    """Whether a folder's name says no more than that it holds images ("images", "JPEGImages", "data")."""
    return bool(words := words_of(name)) and all(word in _FILLERS for word in words)


def split_folders(folders: Sequence[str]) -> dict[str, list[str]]:
    """Split -> the folders that are called like it, best first; {} where folders are no splits.

    They are where all of them are called like splits, or some like train and others like a held-out split. A class may
    be called "train" (the vehicle): it alone among other folders makes no split.
    """
    if short := {name: _SHORT[name.lower()] for name in folders if name.lower() in _SHORT}:
        whole = {name: split for name in folders if (split := short.get(name) or _read(name)[0])}
        return _grouped(whole) if len(whole) == len(folders) > 1 else {}
    read = {name: _read(name) for name in folders}
    rests = {frozenset(rest) for split, rest in read.values() if split}
    shared = rests.pop() if len(rests) == 1 else frozenset()  # as in seg_train and seg_test
    split_of = {name: split for name, (split, rest) in read.items() if split and (not rest or set(rest) == shared)}
    splits = set(split_of.values())
    plain = any(not read[name][1] for name in split_of) or len(splits) > 1
    laid_out = len(split_of) == len(folders) or ("train" in splits and not splits.isdisjoint(("val", "test")))
    return _grouped(split_of) if plain and laid_out else {}


def choose(splits: Mapping[str, Sequence[str]], split: str, where: Path | str) -> str | None:
    """The folder of a split among `split_folders`; `val` and `test` stand in for one another; None: there is none.

    Raises:
        UserError: two folders that say it equally well.
    """
    names = splits.get(split) or splits.get(SAME_SPLIT.get(split, split)) or ()
    if len(names) > 1 and _rank(names[0])[:2] == _rank(names[1])[:2]:
        raise UserError(
            f"{where} has two folders of the {split} split: '{written(names[0])}' and '{written(names[1])}'",
            allowed="one folder a split",
            next="move their images into one folder, or give one of them",
        )
    return names[0] if names else None


def split_in(name: str) -> str | None:
    """The split that the name of a shard or table says anywhere in it ("x-train-00000.tar"); None: none, or several."""
    splits = {split for word in words_of(name) if (split := _split(word))}
    return splits.pop() if len(splits) == 1 else None


def of_split(files: Sequence[Path], split: str) -> list[Path]:
    """The shards of a split, by the words in their names; all of them where no name says a split.

    Raises:
        UserError: their names say splits, but not this one.
    """
    splits = {file: split_in(file.name) for file in files}
    if not any(splits.values()):
        return list(files)
    for name in (split, SAME_SPLIT.get(split)):
        if chosen := [file for file in files if name and splits[file] == name]:
            return chosen
    raise UserError(
        f"{files[0].parent} has no {split} split",
        allowed=f"its files: {written(files[0].name)}, ...",
        next=choices(splits.values()),
    )


def choices(splits: Iterable[str | None]) -> str:
    """What to type for each of the splits that are there."""
    return "\n".join(f"--split {name}" for name in dict.fromkeys(splits) if name)


def training_files(files: Sequence[Path], split: str) -> list[Path]:
    """The shards of the training split, where another split is asked for; [] where names say none."""
    return [file for file in files if split != "train" and split_in(file.name) == "train"]


def _read(name: str) -> tuple[str | None, list[str]]:
    """The split that a name says, None where it says none or two, and its other words but fillers."""
    words = words_of(name)
    splits = [split for word in words if (split := _split(word))]
    rest = [word for word in words if not _split(word) and word not in _FILLERS]
    if words[:2] == ["held", "out"]:
        return "val", rest[2:]
    return (splits[0] if len(set(splits)) == 1 else "train" if splits == ["train", "val"] else None), rest


def _split(word: str) -> str | None:
    match = _ROOT.fullmatch(word)
    return _SPLIT_OF[match[1]] if match else None


def _grouped(split_of: Mapping[str, str]) -> dict[str, list[str]]:
    grouped: dict[str, list[str]] = {}
    for name in sorted(split_of, key=_rank):
        grouped.setdefault(split_of[name], []).append(name)
    return grouped


def _rank(name: str) -> tuple[int, int, str]:
    """Sorts what says a split best first: the plainest word, then the fewest others."""
    words = words_of(name)
    plain = [roots.index(word) for roots in _WORDS.values() for word in words if word in roots]
    return (plain[0] if plain else len(words) + 10, len(words), name)
