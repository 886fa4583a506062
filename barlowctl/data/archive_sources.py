"""Images inside archives, and lists of paths: which reader opens a file.

Each reader looks a file (or a folder of shards) over once and keeps where every image lies; images themselves are read
when they are asked for.
"""

from __future__ import annotations

from pathlib import Path

from barlowctl.data.path_list import PathList
from barlowctl.data.picture import Source
from barlowctl.data.tar_shards import TarShards, open_tar_shards, tar_files
from barlowctl.data.wanted import CHOSEN_HERE, Wanted
from barlowctl.data.zip_folder import ZipFolder


def open_archive(path: Path, split: str, wanted: Wanted = CHOSEN_HERE) -> Source | None:
    """A file that is an archive or a list, or a folder that holds nothing but shards; None for anything else."""
    if path.is_dir():
        files = tar_files(path)
        return open_tar_shards(files, split, wanted.member) if files else None
    name = path.name.lower()
    if name.endswith(".tar"):
        return TarShards([path], split, member=wanted.member)
    if name.endswith(".zip"):
        return ZipFolder(path, split)
    return PathList(path, split) if name.endswith((".txt", ".tsv", ".lst")) else None
