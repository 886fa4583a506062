"""Which image of a sample is read where samples have several: photo and mask of one name in tar files (WebDataset)."""

from __future__ import annotations

import re
from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from barlowctl.errors import UserError, instead

ALL = "all"
"""What to ask for where every member is to be read."""

_WORD = re.compile(r"[^\W\d]\w*")
_PHOTO = {"rgb", "image", "img", "input", "photo", "picture", "color", "colour", "original", "orig", "left", "full"}
_NO_PHOTO = {
    *("seg", "segm", "segmentation", "mask", "masks", "matte", "label", "labels", "gt", "annotation", "anno", "depth"),
    *(
        "disparity",
        "normal",
        "normals",
        "flow",
        "semantic",
        "instance",
        "panoptic",
        "alpha",
        "edge",
        "edges",
        "heatmap",
    ),
    *("saliency", "pred", "thumb", "thumbnail", "preview"),
}
_PLAIN = ("jpg", "jpeg", "webp", "png", "heic", "avif", "tif", "tiff", "bmp")


@dataclass(frozen=True)
class Chosen:
    """What is read of each sample.

    keep: (n,) bool.    skipped: kind -> positions.    notes: what was chosen.
    other: a member that could be chosen instead, "" where there was no choice.
    """

    keep: np.ndarray
    skipped: dict[str, list[int]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    other: str = ""


def key_and_member(name: str) -> tuple[str, str]:
    """A name's sample and what it is of it: ("a/0001", "seg.png") of a/0001.seg.png.

    As WebDataset has it the sample ends at the first dot; but where more dots follow, what stands between them must be
    words, or they belong to the sample ("shot 10.22.33.png").
    """
    folder, slash, base = name.rpartition("/")
    stem, _, member = base.partition(".")
    if not all(_WORD.fullmatch(part) for part in member.split(".")[:-1]):
        stem, _, member = base.rpartition(".")
    return f"{folder}{slash}{stem}", member.lower()


def choose_members(
    names: Sequence[str], shards: Sequence[int] | array[int], requested: str | None, samples: bool
) -> Chosen:
    """Choose among images that share a sample.

    Args:
        names: of images. shards: which file each lies in; samples do not cross files.
        requested: a member ("jpg", "seg.png"), `ALL`, or None: photos rather than masks, plain endings first.
        samples: whether files that are no images (labels, captions) share names with images, as samples' parts do.

    Raises:
        UserError: no image is of the requested member.
    """
    keep = np.ones(len(names), dtype=bool)
    members = Counter(key_and_member(name)[1] for name in names)
    if requested == ALL or (len(members) < 2 and requested is None):
        return Chosen(keep)
    if requested is not None:
        return _only(names, requested.lower().removeprefix("."), members)
    groups = _several(names, shards)
    if not groups:
        return Chosen(keep)
    beside = Counter(member for group in groups for member, _ in group)
    ranked = sorted(beside, key=lambda member: (_rank(member), -beside[member], _plain(member), member))
    second = [member for member in ranked[1:] if 2 * beside[member] >= members[member]]
    if not second or not (samples or len(groups) > 1 or any(_rank(member) == _LAST for member in second)):
        note = f"images of one name and several endings ({', '.join(ranked[:4])}): all are read"
        return Chosen(keep, notes=[note], other=ranked[0])
    passed: dict[str, list[int]] = {}
    for group in groups:
        first = min(group, key=lambda pair: ranked.index(pair[0]))
        for member, index in group:
            if (member, index) != first and member in second:
                keep[index] = False
    for index, name in enumerate(names):
        member = key_and_member(name)[1]
        if member in second and _rank(member) == _LAST:
            keep[index] = False  # a mask without its photo
        if not keep[index]:
            passed.setdefault(f".{member} images beside .{ranked[0]} in a sample", []).append(index)
    others = [member for member in second if any(kind.startswith(f".{member} ") for kind in passed)]
    note = f"samples have {' and '.join(ranked[:4])}: {ranked[0]} is read"
    return Chosen(keep, passed, [note], others[0])


def _only(names: Sequence[str], requested: str, members: Counter[str]) -> Chosen:
    if requested not in members:
        listed = ", ".join(member for member, _ in members.most_common(8))
        raise UserError(
            f"--member is '{requested}', and no image is one",
            allowed=f"{listed}, {ALL}",
            next=instead("--member", requested, members),
        )
    keep = np.array([key_and_member(name)[1] == requested for name in names])
    passed: dict[str, list[int]] = {}
    for index in np.flatnonzero(~keep).tolist():
        kind = f".{key_and_member(names[index])[1]} images, of which none was asked for"
        passed.setdefault(kind, []).append(index)
    return Chosen(keep, passed)


def _several(names: Sequence[str], shards: Sequence[int] | array[int]) -> list[list[tuple[str, int]]]:
    """Samples with more than one image: (member, position) of each."""
    samples: dict[tuple[int, str], int | list[tuple[str, int]]] = {}
    for index, name in enumerate(names):
        key, member = key_and_member(name)
        place = shards[index], key
        present = samples.get(place)
        if present is None:
            samples[place] = index
        elif isinstance(present, int):
            samples[place] = [(key_and_member(names[present])[1], present), (member, index)]
        else:
            present.append((member, index))
    return [group for group in samples.values() if isinstance(group, list)]


_LAST = 3


def _rank(member: str) -> int:
    """0: an ending alone; 1: a word for a photo; 2: another word; 3: a word for a mask or a map."""
    words = member.split(".")[:-1]
    if not words:
        return 0
    parts = {part for word in words for part in word.split("_")}
    if parts & _NO_PHOTO:
        return _LAST
    return 1 if parts & _PHOTO else 2


def _plain(member: str) -> int:
    ending = member.rpartition(".")[2]
    return _PLAIN.index(ending) if ending in _PLAIN else len(_PLAIN)
