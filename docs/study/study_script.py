"""What the studies with runs of their own share: a command line, numbers with a spread, and cells as CSV."""

from __future__ import annotations

import argparse
import csv
import io
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any


def run(
    document: str | None,
    kind: str,
    names: Sequence[str],
    study: Callable[[Path, Sequence[int], Sequence[str]], None],
    results: Callable[[Path], tuple[str, str]],
    arguments: Sequence[str] | None = None,
) -> None:
    """FOLDER [--seeds 0,1,2] [--only NAME,...] [--results FOLDER]: what is missing is made, then all of it shown.

    Args:
        document: the help.
        kind: what `names` are names of. A file may stand for one.
        study: called with the folder, the seeds and the chosen names.
        results: a folder -> the text of results.md and of cells.csv.

    Raises:
        SystemExit: a name that is none, or a seed that is no number, before anything is made.
    """
    parser = argparse.ArgumentParser(description=document, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where runs and measurements go, and stay")
    parser.add_argument("--seeds", type=_whole_numbers, default="0,1,2", help="which, e.g. 0,1,2")
    parser.add_argument("--only", help=f"some of the {kind}: {', '.join(names)}")
    parser.add_argument("--results", type=Path, help="write results.md and cells.csv here")
    options = parser.parse_args(arguments)
    chosen = options.only.split(",") if options.only else names
    if unknown := [name for name in chosen if name not in names and not Path(name).is_file()]:
        parser.error(f"'{unknown[0]}' is none of the {kind}: {', '.join(names)}")
    folder = options.folder.resolve()
    study(folder, options.seeds, chosen)
    text, table = results(folder)
    print(text)
    if options.results is not None:
        options.results.mkdir(parents=True, exist_ok=True)
        (options.results / "results.md").write_text(text, encoding="utf-8")
        (options.results / "cells.csv").write_text(table, encoding="utf-8")


def _whole_numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",")]


def mean_and_spread(values: Sequence[float], digits: int) -> str:
    """The mean, ± the standard deviation where there are two values or more."""
    spread = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.{digits}f}{spread}"


def as_csv(columns: Sequence[str], cells: Iterable[Mapping[str, Any]]) -> str:
    """A line a cell, numbers with two decimals."""
    table = io.StringIO()
    writer = csv.DictWriter(table, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(
        {key: round(value, 2) if isinstance(value, float) else value for key, value in cell.items()} for cell in cells
    )
    return table.getvalue()
