"""The result of `barlowctl transfer`: its file, and for people a table beside the paper's rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from barlowctl.cli.console import Console
from barlowctl.cli.probe_result import say_label_free
from barlowctl.cli.subject import say_unreadable
from barlowctl.output_paths import Outputs, whole

Show = Callable[[Console, str, dict[str, Any]], None]


def conclude(
    console: Console, name: str, result: dict[str, Any], folder: Path, show: Show, not_written: Sequence[str]
) -> None:
    """Write a result and show it.

    Args:
        name: of the network, for people. not_written: what could not be written before.

    Raises:
        typer.Exit: something could not be written.
    """
    from barlowctl.data.images.unreadable import Problem
    from barlowctl.measure.identity import result_file
    from barlowctl.runs import rundir

    outputs = Outputs(problems=list(not_written))
    file, note_on_file = result_file(folder, f"transfer-{result['task']}", result["identity"])
    with outputs.writing(file):
        rundir.write_json(file, whole(result))
    show(console, name, result)
    say_unreadable(console, [Problem(**problem) for problem in result["unreadable"]])
    if note_on_file:
        console.say(f"note: {note_on_file}")
    if outputs.files:
        console.say(f"written to {file}")
    console.conclude({**result, "file": str(file) if outputs.files else None}, outputs)


def show_features(console: Console, name: str, result: dict[str, Any]) -> None:
    """Of classifiers on fixed features."""
    from barlowctl.data.tree.scan_report import lines_of
    from barlowctl.eval import svm

    value = "not reported" if result["value"] is None else f"{result['value']:.2f}"
    value += f" ± {result['sd']:.2f}" if "sd" in result else ""
    rows = [
        (f"{method} (paper, ImageNet ResNet-50)", f"{number:.1f}") for method, number in result["published"].items()
    ]
    console.table(
        f"{result['task']}: {result['metric']}, percent", ("features of", result["metric"]), [(name, value), *rows]
    )
    if result.get("reason"):
        console.say(f"note: not reported: {result['reason']}")
    console.say(f"protocol: {result['protocol']}")
    measured = result.get("measured", {})
    if (nearest := measured.get("knn", {}).get("top1")) is not None:
        console.say(f"kNN top-1: {nearest:.2f}")
    say_label_free(console, measured)
    if "map_11_points" in result:
        console.say(f"by VOC 2007's own 11 points: {result['map_11_points']:.2f}")
    for note in result.get("notes", ()):
        console.say(f"note: {note}")
    for split in ("train", "trainval", "test"):
        for line in lines_of(result["data"].get(split, {})):
            console.say(f"{split}: {line}")
    if result.get("not_converged"):
        console.say(f"note: {result['not_converged']} fits of the search over costs reached 2,000 iterations")
    if result.get("low_shot"):
        few = [
            (str(row["shots"]), *(f"{row[key]:.2f} ± {row[f'{key}_sd']:.2f}" for key in ("map_area", "map_11_points")))
            for row in result["low_shot"]
        ]
        console.table("few positives per class, five draws", ("positives", svm.AREA, svm.ELEVEN_POINTS), few)
