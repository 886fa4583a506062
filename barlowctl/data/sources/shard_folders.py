"""Tar and Parquet files in split folders, or below a folder that holds everything (default/train/0000.parquet)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from barlowctl.data.names import written
from barlowctl.data.sources.parquet_source import parquet_files
from barlowctl.data.sources.tar_shards import tar_files
from barlowctl.data.tree.scan import subfolders
from barlowctl.data.tree.splits import choices, choose, split_folders
from barlowctl.errors import UserError

DEEPEST = 4


@dataclass(frozen=True)
class ShardFolder:
    """place: the folder whose files are read.    training: that of the training split, where it is another one."""

    place: Path
    training: Path | None = None


def find_shard_folder(path: Path, split: str) -> ShardFolder | None:
    """Where the shards of a split lie; None where there are none.

    Raises:
        UserError: split folders with shards, but none of this split.
    """
    place, training = path, None
    for _ in range(DEEPEST):
        if _has_shards(place):
            return ShardFolder(place, training)
        folders = [name for name in subfolders(place) if shards_below(place / name)]
        if splits := split_folders(folders):
            chosen, train = choose(splits, split, place), choose(splits, "train", place) if "train" in splits else None
            if chosen is None:
                have = ", ".join(written(name) for names in splits.values() for name in names)
                raise UserError(f"{path} has no {split} split", allowed=f"its folders: {have}", next=choices(splits))
            training = place / train if train is not None and train != chosen else None
            place = place / chosen
        elif len(folders) == 1:
            place = place / folders[0]
        else:
            return None
    return None


def _has_shards(place: Path) -> bool:
    return bool(tar_files(place) or parquet_files(place))


def shards_below(place: Path, depth: int = DEEPEST) -> bool:
    """Whether a folder, or one below it, holds tar or Parquet files."""
    return depth > 0 and (
        _has_shards(place) or any(shards_below(place / name, depth - 1) for name in subfolders(place))
    )
