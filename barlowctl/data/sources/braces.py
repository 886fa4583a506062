"""Shards that are named as WebDataset names them: `s-{0000..0002}.tar`, `{train,extra}-0.tar`, several with `::`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from barlowctl.data.sources.file_kind import kind_of
from barlowctl.data.sources.parquet_source import ParquetImages
from barlowctl.data.sources.picture import Source
from barlowctl.data.sources.read_options import ReadOptions
from barlowctl.data.sources.tar_shards import TarShards
from barlowctl.errors import UserError

_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")
_SEVERAL = "::"


def expanded(path: Path) -> list[Path]:
    """The files that a path with braces names, in their order, whether they are there or not; [] of any other path.

    As a shell, and WebDataset, expand it: `{000..012}` are numbers of as many digits, `{a,b}` words.
    """
    text = str(path)
    if path.exists() or (not any(map(_choices, _BRACES.findall(text))) and _SEVERAL not in text):
        return []
    names = dict.fromkeys(name for part in text.split(_SEVERAL) for name in _names(part))
    return [Path(name).expanduser() for name in names]


def _names(text: str) -> Iterator[str]:
    """Innermost braces first."""
    for braces in _BRACES.finditer(text):
        if choices := _choices(braces[1]):
            for choice in choices:
                yield from _names(f"{text[: braces.start()]}{choice}{text[braces.end() :]}")
            return
    yield text


def _choices(inside: str) -> list[str]:
    """What stands for braces with this in them; []: they are a part of the name."""
    if numbers := _RANGE.fullmatch(inside):
        first, last = int(numbers[1]), int(numbers[2])
        padded = any(len(number) > 1 and number.startswith("0") for number in numbers.groups())
        width = max(map(len, numbers.groups())) if padded else 0
        return [f"{number:0{width}d}" for number in range(first, last + 1)]
    return inside.split(",") if "," in inside else []


def open_shards(path: Path, files: list[Path], split: str, options: ReadOptions) -> Source:
    """The shards that `path` names: tar files, or Parquet files. They are those of the split, whatever they are called.

    Raises:
        UserError: one of them is not there, or they are of neither kind.
        OSError: one cannot be read.
    """
    missing = [file for file in files if not file.is_file()]
    if missing:
        raise UserError(
            f"{path} names {len(files):,} files, and {len(missing):,} of them are not there: {missing[0]}",
            allowed="numbers of files that are there",
            next="name those that are there",
        )
    kinds = {kind_of(file) for file in files}
    if kinds == {"tar"}:
        return TarShards(files, split, (), options.member, files[0].parent, options.class_folders)
    if kinds == {"parquet"}:
        return ParquetImages(files, split, options=options)
    raise UserError(
        f"{path} names files that are no shards: {', '.join(sorted(kinds))}",
        allowed="tar files alone, or Parquet files alone",
        next="name shards of one kind",
    )
