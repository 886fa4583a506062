"""The note of a source whose images lie deeper than its class folders, with the command that reads the inner ones."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from barlowctl import shell
from barlowctl.data.names import packed_as
from barlowctl.data.sources.picture import Source
from barlowctl.data.sources.read_options import ClassFolders
from barlowctl.data.tree.arrangement import Arrangement
from barlowctl.data.tree.inner_folders import note_on_depth


def note_depth(
    source: Source,
    path: Path,
    arrangement: Arrangement,
    names: Iterable[Sequence[str]],
    class_folders: ClassFolders | None,
) -> None:
    """Note in the source's report where its class folders may be the wrong ones, unless they were asked for.

    Args:
        path: what was given to be read. names: folders of images, as their parts below the folder of the classes.
    """
    if class_folders is not None or len(arrangement.classes) < 2 or arrangement.inside:
        return
    flags = () if source.split == "train" else ("--split", source.split)
    out = f"{packed_as(path).stem}-inner.beton"  # beside a file with the outer ones
    command = shell.line("barlowctl", "data", "pack", path, out, *flags, "--class-folders", "inner")
    if note := note_on_depth(names, arrangement.class_names, command):
        source.scan_report.note(note)
