"""What `barlowctl export` wrote: where it is, how near it is to the run, and the Python that loads it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from barlowctl.cli.console import Console

if TYPE_CHECKING:
    from barlowctl.exports import ExportedFolder, ExportReport


def show_export(console: Console, report: ExportReport) -> None:
    """One format: for people, and as the JSON document."""
    for note in report.notes:
        console.say(f"note: {note}")
    console.say(
        f"exported to {report.path} (format {report.format}); loaded back by its library, largest difference "
        f"of features {report.max_abs_diff:.2g}"
    )
    console.say("load it in Python with:")
    _paste(console, report)
    console.result(as_dict(report))


def show_folder(console: Console, folder: ExportedFolder) -> None:
    """Every format: what was written, and why the others were not."""
    for note in dict.fromkeys(note for report in folder.reports for note in report.notes):
        console.say(f"note: {note}")
    console.say(f"exported to {folder.path}; each loaded back by its library:")
    for report in folder.reports:
        console.say(f"  {report.format}: {report.path.name}, largest difference of features {report.max_abs_diff:.2g}")
    for format, why in folder.left_out.items():
        console.say(f"  {format}: not written: {why}")
    console.say("load them in Python with:")
    for report in folder.reports:
        console.paste(f"\n# {report.format}")
        _paste(console, report)
    reports = [as_dict(report) for report in folder.reports]
    console.result({"path": str(folder.path), "formats": reports, "left_out": dict(folder.left_out)})


def as_dict(report: ExportReport) -> dict[str, Any]:
    """A report as JSON has it."""
    return {
        "path": str(report.path),
        "format": report.format,
        "max_abs_diff": report.max_abs_diff,
        "python": report.python_line,
        "fine_tuning": report.fine_tuning_line,
        "files": [str(file) for file in report.files],
        "notes": list(report.notes),
    }


def _paste(console: Console, report: ExportReport) -> None:
    console.paste(report.python_line)
    if report.fine_tuning_line:  # a comment: whatever follows the heading can be pasted as a whole
        console.paste(f"# to fine-tune it on 10 classes: {report.fine_tuning_line}")
