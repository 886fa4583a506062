"""Subsets of labels: SimCLR's file lists, and seeded class-balanced draws."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePath

import torch
from torch import Tensor

from barlowctl.amounts import counted
from barlowctl.errors import UserError
from barlowctl.files import write_text


def balanced_draw(labels: Tensor, percent: float, *, seed: int) -> Tensor:
    """Ascending positions of `percent` of every class, rounded, at least one image each.

    Args:
        labels: `(N,)` class of each image.
        percent: in (0, 100].
    """
    if not 0.0 < percent <= 100.0:
        raise UserError(f"{percent:g} percent of the labels", allowed="more than 0, at most 100")
    generator = torch.Generator().manual_seed(seed)
    chosen = []
    for label in labels.unique():
        members = (labels == label).nonzero().flatten()
        count = max(1, round(percent / 100 * len(members)))
        chosen.append(members[torch.randperm(len(members), generator=generator)[:count]])
    return torch.cat(chosen).sort().values


def note_on_draw(labels: Tensor, percent: float) -> str | None:
    """What to know of a draw whose classes are too small for the percentage; None: every class has its share.

    Args:
        labels: `(N,)` class of each image. percent: in (0, 100].
    """
    sizes = labels.unique(return_counts=True)[1].tolist()
    shares = [round(percent / 100 * size) for size in sizes]
    if not (empty := shares.count(0)):
        return None
    drawn = sum(shares) + empty
    return (
        f"{percent:g} % of the labels rounds to no image in {empty:,} of {len(sizes):,} classes, of which one image "
        f"each is drawn: {drawn:,} of {counted(len(labels), 'training image')}, {100 * drawn / len(labels):.3g} %"
    )


def read_list(path: Path, names: Sequence[str]) -> Tensor:
    """Ascending positions of the images that a file list names, one per line.

    SimCLR's lists (`imagenet_subsets/1percent.txt`) have bare file names (`n02389026_9347.JPEG`), as the
    authors' code reads them; a path below the data folder is understood too.

    Args:
        names: of all images, relative to the data folder, in their order.

    Raises:
        UserError: the file is missing, empty, or names an image that is not there, or twice.
    """
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"the list '{path}' cannot be read: {error}",
            allowed="a text file, a file name a line",
            next="without --semi-list",
        ) from error
    if not lines:
        raise UserError(
            f"the list '{path}' is empty", allowed="a text file with one file name per line", next="without --semi-list"
        )
    whole = {name: index for index, name in enumerate(names)}
    bare: dict[str, int] = {}
    ambiguous = set()
    for index, name in enumerate(names):
        base = PurePath(name).name
        if base in bare:
            ambiguous.add(base)
        bare[base] = index
    positions = []
    for number, name in enumerate(lines, start=1):
        position = whole.get(name, None if name in ambiguous else bare.get(name))
        if position is None:
            if name in ambiguous:
                alike = [f"'{other}'" for other in names if PurePath(other).name == name]
                raise UserError(
                    f"{path}, line {number}: '{name}': more than one image has that name",
                    allowed=", ".join(alike[:3]) + (", ..." if len(alike) > 3 else ""),
                    next="write names with their folders into the list",
                )
            raise UserError(
                f"{path}, line {number}: '{name}': no training image has that name",
                allowed=f"names such as '{names[0]}'",
                next="name the folder of images that the list belongs to with --data",
            )
        positions.append(position)
    if len(set(positions)) != len(positions):
        repeated = [position for position, times in Counter(positions).items() if times > 1]
        raise UserError(
            f"the list '{path}' names {counted(len(repeated), 'image')} more than once: '{names[repeated[0]]}'"
            + (" ..." if len(repeated) > 1 else ""),
            next="without --semi-list",
        )
    return torch.tensor(sorted(positions))


def write_list(path: Path, names: Sequence[str]) -> None:
    """One name a line, in the form that `read_list` reads back.

    Bare file names, SimCLR's form, where each begins with its class folder's name and none comes twice; else
    paths below the data folder.
    """
    paths = [PurePath(name) for name in names]
    bare = all(len(entry.parts) == 2 and entry.name.split("_")[0] == entry.parts[0] for entry in paths)
    if bare and len({entry.name for entry in paths}) == len(paths):
        names = [entry.name for entry in paths]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, "".join(f"{name}\n" for name in names))
