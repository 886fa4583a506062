"""Which splits a source has beside the one that was opened."""

from __future__ import annotations

import contextlib
from pathlib import Path

from barlowctl.data.sources.array_sources import ArraySource, open_cifar, open_idx, open_stl10
from barlowctl.data.sources.parquet_source import ParquetImages, parquet_files
from barlowctl.data.sources.picture import Source
from barlowctl.data.sources.shard_folders import find_shard_folder
from barlowctl.data.sources.tar_shards import TarShards, tar_files
from barlowctl.data.tree.splits import SAME_SPLIT, SPLITS, of_split
from barlowctl.errors import UserError


def other_splits(source: Source, path: Path) -> list[str]:
    """The splits that `source`, opened from `path`, was not opened with; none of val and test stands for the other.

    No image is read: folders, names of files and columns say it.
    """
    there = set(source.splits)
    if isinstance(source, ArraySource) and path.is_dir():
        there |= {split for split in SPLITS if _has_arrays(source, split)}
        if "test" in there:
            there.discard("val")  # of arrays there is one held-out part
    elif isinstance(source, TarShards | ParquetImages) and path.is_dir():
        there |= _of_shards(source, path)
    chosen = source.split if source.split in there else SAME_SPLIT.get(source.split, source.split)
    return [split for split in SPLITS if split in there and split != chosen]


def _has_arrays(source: ArraySource, split: str) -> bool:
    for opener in (open_idx, open_cifar, open_stl10):
        with contextlib.suppress(UserError):
            if opener(source.path, split) is not None:
                return True
    return False


def _of_shards(source: Source, path: Path) -> set[str]:
    """Splits whose shards are other files than those that are read."""
    there: dict[frozenset[Path], str] = {}
    for split in SPLITS:
        with contextlib.suppress(UserError):
            if (shards := find_shard_folder(path, split)) is not None:
                files = tar_files(shards.place) or parquet_files(shards.place)
                there.setdefault(frozenset(of_split(files, split)), split)
    return set(there.values()) if len(there) > 1 else set()
