"""What a packed file holds, for people: its classes, and what its packer met that is not in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from barlowctl.cli.console import Console

if TYPE_CHECKING:
    from barlowctl.data.beton.pack import PackReport
    from barlowctl.data.beton.reader import Beton

LISTED = 10  # damaged images that are listed on the terminal
CLASSES = 5
"""Names of classes that a table lists."""


def class_sizes(beton: Beton) -> list[int]:
    """Images of each class, in the order of the labels."""
    import numpy as np

    labels = beton.labels[beton.labels >= 0]
    return [int(count) for count in np.bincount(labels, minlength=beton.num_classes)]


def class_rows(sizes: Sequence[int], names: Sequence[str]) -> list[tuple[str, Any]]:
    """Rows of a table: how many classes and the names of the first ones, and how many images the classes have."""
    if not any(sizes):
        return [("classes", "none (unlabelled)")]
    more = ", ..." if len(names) > CLASSES else ""
    rows: list[tuple[str, Any]] = [
        ("classes", f"{len(sizes):,}" + (f": {', '.join(names[:CLASSES])}{more}" if names else ""))
    ]
    if len(sizes) > 1:
        least, most = list(sizes).index(min(sizes)), list(sizes).index(max(sizes))
        name = {at: names[at] if at < len(names) else str(at) for at in (least, most)}
        both = f"{sizes[least]:,} ({name[least]}) to {sizes[most]:,} ({name[most]})"
        rows.append(("images of a class", f"{sizes[least]:,}" if sizes[least] == sizes[most] else both))
    return rows


def show_report(console: Console, report: PackReport) -> None:
    """The outcome as a table; what was left out, doubtful or passed over by name."""
    from barlowctl.data.beton.reader import Beton
    from barlowctl.data.tree.scan_report import total

    megabytes = f"{report.bytes / 1e6:.1f} MB in {report.seconds:.1f} s"
    beton = Beton.open(report.path)
    rows = [
        ("images", report.samples),
        *class_rows(class_sizes(beton), beton.class_names),
        *([("without a label", report.samples - report.labelled)] if 0 < report.labelled < report.samples else []),
        ("channels", report.channels),
        ("stored as they were", report.passed_through),
        ("stored anew as JPEG", report.encoded),
        ("stored as pixels", report.raw),
        *([("made smaller", report.resized)] if report.resized else []),
        ("unreadable, left out", len(report.unreadable)),
        *([("passed over", total(report.as_dict()))] if report.passed_over else []),
        ("size", megabytes),
        ("content hash", report.content_hash),
    ]
    rows += [(f"changed: {why}", count) for why, count in report.changed.items()]
    cells = [(name, f"{value:,}" if isinstance(value, int) else value) for name, value in rows]
    console.table(report.path, ("", "value"), cells)
    _say_what_was_met(console, report.unreadable, len(report.unreadable), report.damaged, report.as_dict())


def say_what_was_met(console: Console, info: Mapping[str, Any]) -> None:
    """The lines of `show_report` of a file's information block."""
    skipped = info.get("skipped", [])
    count = info.get("counts", {}).get("skipped", len(skipped))
    _say_what_was_met(console, skipped, count, info.get("damaged", []), info)


def _say_what_was_met(
    console: Console, unreadable: Sequence[Sequence[str]], count: int, damaged: Sequence[str], stored: Mapping[str, Any]
) -> None:
    from barlowctl.data.images.unreadable import Problem, listed
    from barlowctl.data.tree.scan_report import lines_of

    problems = [Problem(name, reason) for name, reason in unreadable]
    for line in listed(problems, count, " (data info --json lists up to 100)"):
        console.say(line)
    for name in damaged[:LISTED]:
        console.say(f"damaged, but decoded: {name}")
    for line in lines_of(stored):
        console.say(line)


def text_of(value: Any) -> str:
    """A value for people: a range, yes or no, a number."""
    if isinstance(value, list):
        low, high = value
        return f"{low:,}" if low == high else f"{low:,} to {high:,}"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "-" if value is None else f"{value:,}" if isinstance(value, int) else str(value)
