"""The note of a source whose folders may be other classes than it says, with the command that reads them so."""

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

    So it is where images lie deeper than the class folders, and where folders are none as more images lie beside them.

    Args:
        path: what was given to be read. names: folders of images, as their parts below the folder of the classes.
    """
    source.other_classes = bool(arrangement.pile) and class_folders is None and not source.class_names
    depth = class_folders is None and len(arrangement.classes) > 1 and not arrangement.inside
    if arrangement.pile and not source.other_classes:
        source.scan_report.note(arrangement.pile)
    if not (source.other_classes or depth):
        return
    flags = () if source.split == "train" else ("--split", source.split)
    out = f"{packed_as(path).stem}-inner.beton"  # beside a file with the outer ones
    command = shell.line("barlowctl", "data", "pack", path, out, *flags, "--class-folders", "inner")
    if source.other_classes:
        source.scan_report.note(f"{arrangement.pile}; to take the folders for classes: {command}")
    elif note := note_on_depth(names, arrangement.class_names, command):
        source.deeper_classes = True
        source.scan_report.note(note)
