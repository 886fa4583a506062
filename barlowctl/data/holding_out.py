"""How labelled images that have no test split get one: the commands that hold some of them out and pack both."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from barlowctl import shell
from barlowctl.data import sources
from barlowctl.data.beton.reader import Beton
from barlowctl.data.sources.read_options import ReadOptions
from barlowctl.errors import UserError
from barlowctl.output_paths import free

PERCENT = 20
SPLITS = ("test", "val")


def of_source(path: Path, home: Path) -> list[str]:
    """The command that packs images which are not packed, a share of each class held out; none where they have no
    label, or a test split.

    Args:
        home: the data home.

    Raises:
        UserError: there are no such images.
    """
    images = sources.open_source(path)
    labelled = any(images.describe(row)[1] >= 0 for row in range(len(images)))
    if not (labelled or images.other_classes) or set(SPLITS) & set(sources.other_splits(images, path)):
        return []
    classes = () if labelled else ("--class-folders", "inner")
    name = _new_name(path.absolute().name.lstrip(". ") or "images", home)
    return [shell.line("barlowctl", "data", "pack", path, name, *classes, "--hold-out", PERCENT)]


def of_packed(file: Path, home: Path) -> list[str]:
    """What to type for the held-out images of a packed training split, which it was packed from where they still lie.

    A packed test split beside it is named. Where the file was packed with some held out, or its source has another
    split, that is packed; else both are packed anew, under another name. None where the file does not say enough.

    Args:
        file: of the training split. home: the data home.
    """
    if any((file.parent / f"{split}.beton").is_file() for split in SPLITS) and file.stem not in SPLITS:
        return [shell.line("--data", file.parent)]
    try:
        packed = Beton.open(file)
        source = Path(str(packed.info.get("opened") or ""))
        if not packed.info.get("opened") or not _is_there(source) or not (packed.labels >= 0).any():
            return []
        flags, there = _flags(packed.info), sources.other_splits(sources.open_source(source), source)
    except (UserError, OSError):
        return []
    in_home = file.parent.parent == home
    place = file.parent.name if in_home else file.with_name("test.beton")
    before: Mapping[str, Any] = packed.info.get("read_with", {})
    split = next((split for split in SPLITS if split in there), None)
    if split is not None or "hold_out" in before:
        return [shell.line("barlowctl", "data", "pack", source, place, *flags, "--split", split or "test")]
    name = _new_name(file.parent.name if in_home else source.name, home)
    return [shell.line("barlowctl", "data", "pack", source, name, *flags, "--hold-out", PERCENT)]


def _is_there(source: Path) -> bool:
    return source.exists() or bool(sources.expanded(source))


def _flags(info: Mapping[str, Any]) -> list[str]:
    """What a file was packed with, as flags of `data pack`."""
    noted, conversion = info.get("read_with", {}), info.get("conversion", {})
    flags = ReadOptions(**noted).flags()
    for key in ("range", "background"):
        if (value := conversion.get(key)) not in (None, "auto", "white"):
            flags += [f"--{key}", str(value)]
    if bands := conversion.get("bands"):
        flags += ["--bands", ",".join(str(band) for band in bands)]
    if side := info.get("shorter_side"):
        flags += ["--shorter-side", str(side)]
    return flags


def _new_name(name: str, home: Path) -> str:
    """A name of the data home that nothing has."""
    place = home / name
    return (free(place) if os.path.lexists(place) else place).name
