"""Whether a folder's images are read, or the tar or Parquet files that lie in it."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from barlowctl import shell
from barlowctl.data.names import packed_as
from barlowctl.data.sources.parquet_source import parquet_files
from barlowctl.data.sources.picture import Source
from barlowctl.data.sources.read_options import LayoutName
from barlowctl.data.sources.shard_folders import shards_below
from barlowctl.data.sources.tar_shards import TarShards, tar_files
from barlowctl.data.tree.scan import Scan, folders_of_images, has_images, subfolders
from barlowctl.data.tree.scan_report import ScanReport
from barlowctl.data.tree.splits import of_split
from barlowctl.errors import UserError

_OF_ARRAYS = re.compile(
    r".*idx\d?-ubyte.*|.*-idx\d?.*|data_batch_\d|test_batch|batches\.meta|meta|train|test|\w+_[Xy]\.bin|class_names\.txt"
)
"""Files of IDX, CIFAR and STL-10, of any split."""


@dataclass(frozen=True)
class Layout:
    """shards: read the tar or Parquet files.    note: what lies beside them and how to read that; "" for nothing."""

    shards: bool
    note: str = ""


def choose_layout(path: Path, requested: LayoutName | None = None) -> Layout:
    """Which of the two is read where a folder has both.

    Images in folders come first: an archive is often what they were unpacked from. So do images that lie directly
    beside archives, unless they are fewer (a logo beside shards).

    Raises:
        UserError: what is `requested` is not there.
    """
    archives = tar_files(path) or parquet_files(path)
    places = folders_of_images(path)
    first = next(places, None)
    if requested == "shards" and not shards_below(path):
        raise UserError(f"{path} has no tar or Parquet files", next="without --layout")
    if requested == "folder" and first is None:
        raise UserError(f"{path} has no image files outside archives", next="without --layout")
    if first is None or (requested == "shards" and not archives):
        return Layout(bool(archives) or requested == "shards")
    zips = sorted(file for file in path.iterdir() if file.suffix.lower() == ".zip" and file.is_file())
    if not archives:
        return Layout(False, _beside(path, zips) if zips else "")
    shards = requested == "shards"
    if requested is None and first == path and next(places, None) is None:
        shards = len(Scan(path, ScanReport()).images()) < len(archives)
    if shards:
        names, command = _first_and_number(archives), _pack(path, "--layout", "folder")
        return Layout(True, f"images lie beside {names} and are not read; to read them instead: {command}")
    return Layout(False, _beside(path, archives))


def report_beside_archives(path: Path, place: Path, source: Source) -> None:
    """Report what lies in a folder, and further down in that of the archives that a source reads, beside them.

    Args:
        place: the folder whose archives are read.
    """
    archives = tar_files(place) or parquet_files(place)
    for file in sorted(set(archives) - set(of_split(archives, source.split))):
        source.scan_report.skip("files of another split or none", file.name)
    names, folder = {file.name for file in archives}, archives[0].parent
    if isinstance(source, TarShards) and source.table is not None:
        names.add(source.table.name)
    for above in (folder, *(parent for parent in folder.parents if parent == path or path in parent.parents)):
        for name in Scan(above, source.scan_report).images(but=names):
            source.scan_report.skip("images beside archives", name)
        for name in subfolders(above):
            if above / name != folder and above / name not in folder.parents:
                source.scan_report.skip("folders beside archives", name)


def report_beside_arrays(path: Path, source: Source) -> None:
    """Report what lies in a folder, and in that of the arrays, beside files of arrays that a source reads."""
    for folder in dict.fromkeys((path, source.path)):
        scan = Scan(folder, source.scan_report)
        names = {entry.name for entry in os.scandir(folder) if _OF_ARRAYS.fullmatch(entry.name)}
        names |= {file.name for file in source.files}
        for name in scan.images(but=names):
            source.scan_report.skip("images beside arrays", name)
    if has_images(path):
        command = _pack(path, "--layout", "folder")
        source.scan_report.note(f"image files lie beside the {source.kind} and are not read; to read them: {command}")


def _beside(path: Path, archives: list[Path]) -> str:
    """That archives beside images are not read, and the command that reads them; of zip files one at a time."""
    alone = len(archives) == 1 or archives[0].suffix.lower() == ".zip"
    command = _pack(archives[0]) if alone else _pack(path, "--layout", "shards")
    return f"{_first_and_number(archives)} beside the images is not read; to read it instead: {command}"


def _pack(source: Path, *flags: str) -> str:
    return shell.line("barlowctl", "data", "pack", source, packed_as(source), *flags)


def _first_and_number(archives: list[Path]) -> str:
    return archives[0].name + (f" and {len(archives) - 1} more" if len(archives) > 1 else "")
