"""Images that are not packed, for `data info`: what `data pack` would take of them, and the command."""

from __future__ import annotations

import shlex
from dataclasses import asdict
from pathlib import Path
from typing import Any

from barlowctl import shell
from barlowctl.cli.console import Console
from barlowctl.cli.data.contents import class_rows, text_of


def show_unpacked(console: Console, path: Path, split: str) -> None:
    """Count images and classes, look at some of the images, and say how they are packed.

    Raises:
        UserError: as `open_source`: no images, or no such split.
    """
    from barlowctl.data.beton.pack import flag_of
    from barlowctl.data.beton.survey import survey
    from barlowctl.data.images.unreadable import Problem, listed
    from barlowctl.data.names import packed_as
    from barlowctl.data.sources import open_source, other_splits

    source = open_source(path, split)
    with console.waiting("looking at some of the images ..."):
        met = survey(source)
    others = other_splits(source, path)
    rows: list[tuple[str, Any]] = [
        ("images", f"{source.counted()}, {source.split} split"),
        *class_rows(met.class_sizes, source.class_names),
        *([("without a label", text_of(len(source) - met.labelled))] if 0 < met.labelled < len(source) else []),
        *([("other splits", ", ".join(others))] if others else []),
    ]
    looked_at = f"of {met.looked_at:,} looked at"
    if met.looked_at > len(met.unreadable):
        rows += [
            (f"width, {looked_at}", text_of(list(met.widths))),
            (f"height, {looked_at}", text_of(list(met.heights))),
            (f"channels, {looked_at}", 3 if met.colour else "1 (no colour)"),
            (f"JPEGs kept as they are, {looked_at}", text_of(met.as_they_are)),
        ]
    rows.append((f"unreadable, {looked_at}", text_of(len(met.unreadable))))
    console.table(f"{path} (not packed)", ("", "value"), rows)
    unreadable = listed([Problem(name, reason) for name, reason in met.unreadable])
    for line in (*unreadable, *source.scan_report.lines(), *(f"note: {note}" for note in met.notes)):
        console.say(line)
    flags = shlex.split(flag_of(met.setting)) + ([] if split == "train" else ["--split", split])
    console.next(shell.line("barlowctl", "data", "pack", path, packed_as(path, split), *flags))
    console.result(
        {
            "path": str(path),
            "packed": None,
            "kind": source.kind,
            "split": source.split,
            "other_splits": others,
            "samples": len(source),
            "classes": len(source.class_names),
            "class_names": source.class_names,
            **asdict(met),
            "channels": 3 if met.colour else 1,
            **source.scan_report.as_dict(),
            "notes": [*source.scan_report.notes, *met.notes],
        }
    )
