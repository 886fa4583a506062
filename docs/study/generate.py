"""Writes this folder's results.md and figures from a study's directory: `make study`, `make study-methods`, or

    python docs/study/generate.py studies/fashion-mnist [FOLDER]

It reads what `barlowctl ablate` left there (the table of every study as JSON and Markdown, the figures) and says
what is missing, so it can be run at any time. Nothing here computes a result.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import sys
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from barlowctl.study.recorded import recorded_cells
from barlowctl.study.students_t import quantile

Cell = dict[str, Any]  # what cell.json holds

NEAR = 5.0  # points: variants that are further from the baseline vary more between seeds
ORDER = ("methods", "loss", "asymmetry", "drop-aug", "batch-size", "projector", "projector-width", "depth", "lambd")
OPENING = """# The study in numbers{which}

Generated from the study's own files (generate.py); do not edit. What it means: [README.md]({readme}).

Test images of the recipe's data, frozen features: kNN (k 20) and the fast linear classifier of `barlowctl probe`, in
percent; ± is the standard deviation over seeds; differences are those of the linear top-1 to the baseline, with half
their 95 % interval (Welch's t) in brackets. "Paper" is ImageNet top-1 after 300 epochs (Table 1: after 90 to 1000). The
verdict compares the sign of the two differences where ours is larger than its interval.
"""


def generate(source: Path, folder: Path) -> str:
    """Copy the figures of `source` into `folder`, write cells.csv there, and return the text of results.md.

    Raises:
        SystemExit: there is no study in `source`.
        UserError: its tables are of an earlier version: see `recorded_cells`.
    """
    documents = _documents(source)
    if not documents:
        raise SystemExit(f"no study in '{source}': run `make study` first, for as long as you like")
    here, there = Path(__file__).resolve().parent, folder.resolve()
    readme = Path(os.path.relpath(here / "README.md", there)).as_posix()
    cells = _cells_of(source)
    which = "" if there == here else f": {there.name}"
    lines = [OPENING.format(readme=readme, which=which), *_progress(cells, documents)]
    for document in documents:
        name = document["study"]
        lines += [f"\n## {document['title']} ({document['source']})\n"]
        for suffix in ("png", "svg"):
            if (source / f"{name}.{suffix}").is_file():
                shutil.copyfile(source / f"{name}.{suffix}", folder / f"{name}.{suffix}")
        if (source / f"{name}.png").is_file():
            lines += [f"![{document['title']}]({name}.png)\n"]
        else:
            lines += ["No figure yet: nothing of it is measured.\n"]
        lines += [(source / f"{name}.md").read_text(encoding="utf-8").rstrip()]
    lines += ["\n## Against the paper, row by row\n", *_verdicts(cells, documents)]
    lines += _early(source, documents)
    (folder / "cells.csv").write_text(_csv(cells), encoding="utf-8")
    return "\n".join(lines) + "\n"


def _documents(source: Path) -> list[dict[str, Any]]:
    documents = [_read(file) for file in source.glob("*.json") if file.stem != "study"]
    studies = [document for document in documents if "rows" in document]
    return sorted(studies, key=lambda one: (ORDER.index(one["study"]) if one["study"] in ORDER else 99, one["study"]))


def _cells_of(source: Path) -> dict[str, list[Cell]]:
    """Folder of a variant's cells -> what was recorded of each seed, of the variants that have a row."""
    return {name: [_read(folder / "cell.json") for folder in of] for name, of in recorded_cells(source).items()}


def _read(file: Path) -> Any:
    return json.loads(file.read_text(encoding="utf-8"))


def _progress(cells: Mapping[str, Sequence[Cell]], documents: Sequence[dict[str, Any]]) -> list[str]:
    """How much of it is there, by rows and seeds, and what it took."""
    rows = [row for document in documents for row in document["rows"]]
    done = sum(len(row["finished"]) for row in rows)
    failed = sum(len(row["failed"]) for row in rows)
    missing = sum(len(row["missing"]) for row in rows)
    text = f"{done} of {done + failed + missing} rows times seeds are measured"
    text += f", {failed} failed" if failed else ""
    text += f". **{missing} are missing: this is a study in progress.**" if missing else "."
    spent: dict[str, float] = {}
    for cell in chain.from_iterable(cells.values()):
        for key, value in cell["seconds"].items():
            spent[key] = spent.get(key, 0.0) + value
    if spent:
        hours = {key: value / 3600 for key, value in spent.items()}
        text += (
            f" Training took {hours.get('train', 0):.1f} hours of wall time "
            f"({hours.get('train_cpu', 0):.1f} CPU-hours), measuring {hours.get('measure', 0):.1f} hours, "
            "all cells added up."
        )
    return [text]


def _verdicts(cells: Mapping[str, Sequence[Cell]], documents: Sequence[dict[str, Any]]) -> list[str]:
    spread, freedom = _pooled(cells, documents)
    lines = []
    if freedom:
        lines += [
            f"Pooled over all variants within {NEAR} points of the baseline, the standard deviation between seeds of "
            f"the linear top-1 is {spread:.2f} ({freedom} degrees of freedom): the second margin is made from it, "
            "Welch's from the two rows' own.\n"
        ]
    lines += [
        "| study | variant | ours | margin (Welch) | margin (pooled) | paper | verdict |",
        "|---|---|---:|---:|---:|---:|---|",
    ]
    for document in documents:
        of_variant = {row["variant"]: row for row in document["rows"]}
        for row in document["rows"]:
            if not row["published_difference"]:
                continue
            base = of_variant[row.get("baseline", document["baseline"])]  # a method's own
            is_base = row.get("same_as") == base["variant"]
            ours, margin = row.get("linear_top1_difference"), row.get("linear_top1_margin")
            counts = [len(row["finished"]), len(base["finished"])]
            pooled = None
            if freedom and all(counts) and ours is not None and abs(ours) < NEAR and not is_base:
                pooled = quantile(freedom) * spread * sum(1 / n for n in counts) ** 0.5
            reason = "missing" if ours is None else "the baseline's recipe" if is_base else "needs two seeds"
            verdict = row["verdict"] or reason
            lines.append(
                f"| {document['source']} | {row['variant']} | {_number(ours, '+')} | {_number(margin)} "
                f"| {_number(pooled)} | {row['published_difference']:+.1f} | {verdict} |"
            )
    return lines


def _pooled(cells: Mapping[str, Sequence[Cell]], documents: Sequence[dict[str, Any]]) -> tuple[float, int]:
    """Standard deviation of the linear top-1 between seeds, pooled over variants, and its degrees of freedom."""
    rows = [row for one in documents for row in one["rows"] if row["variant"] == one["baseline"]]
    base = rows[0].get("linear_top1", 0.0)
    squares, freedom = 0.0, 0
    for of_variant in cells.values():
        values = [cell["measures"]["linear_top1"] for cell in of_variant if "measures" in cell]
        if len(values) > 1 and abs(statistics.mean(values) - base) < NEAR:
            squares += statistics.variance(values) * (len(values) - 1)
            freedom += len(values) - 1
    return ((squares / freedom) ** 0.5 if freedom else 0.0), freedom


def _early(source: Path, documents: Sequence[dict[str, Any]]) -> list[str]:
    """What `early.py` measured, where it did."""
    rows: list[dict[str, Any]] = next((one["rows"] for one in documents if one["study"] == "loss"), [])
    measured: dict[str, list[dict[str, Any]]] = {}
    starts: list[dict[str, float]] = []
    steps = 0
    folders = chain.from_iterable(recorded_cells(source).values())
    for document in (_read(folder / "early.json") for folder in folders if (folder / "early.json").is_file()):
        measured.setdefault(document["variant"], []).append(document["after"])
        steps = document["steps"]
        starts += [document["before"]] if "before" in document else []
    if not measured:
        return []
    lines = [
        f"\n## Table 5's variants after {steps} steps\n",
        "The cells begun again and measured early (`early.py`); kNN at the end beside it.\n",
        "| variant | seeds | mean C_ii | rms C_ij | effective rank | kNN then | kNN at the end |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        then = measured.get(row["variant"], [])
        if then:
            keys = (("mean_diagonal", 3), ("rms_off_diagonal", 3), ("effective_rank", 1), ("knn", 2))
            values = " | ".join(_spread([one[key] for one in then], digits) for key, digits in keys)
            lines.append(f"| {row['variant']} | {len(then)} | {values} | {_number(row['knn'])} |")
    if starts:
        at_random = (_spread([one[key] for one in starts], 2) for key in ("knn", "linear_top1"))
        lines += ["\nThe random backbone before the first step: kNN {}, linear top-1 {}.".format(*at_random)]
    return lines


def _csv(of_variants: Mapping[str, Sequence[Cell]]) -> str:
    """Every cell's measures, a line each."""
    cells = sorted(chain.from_iterable(of_variants.values()), key=lambda cell: (cell["seed"], cell["variant"]))
    names = list(dict.fromkeys(name for cell in cells for name in cell.get("measures", {})))
    lines = [",".join(["variant", "seed", *names, "train_cpu_seconds", "overrides"])]
    for cell in cells:
        measures = cell.get("measures", {})  # None: a method that has no such thing
        values = ["nan" if measures.get(name) is None else f"{measures[name]:.6g}" for name in names]
        spent = f"{cell['seconds'].get('train_cpu', float('nan')):.1f}"
        overrides = " ".join(cell["overrides"]).replace('"', '""')
        lines.append(",".join([cell["variant"], str(cell["seed"]), *values, spent, f'"{overrides}"']))
    return "\n".join(lines) + "\n"


def _spread(values: Sequence[float], digits: int) -> str:
    """Mean ± standard deviation over seeds."""
    text = f"{statistics.mean(values):.{digits}f}"
    return f"{text} ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else text


def _number(value: float | None, sign: str = "") -> str:
    return "-" if value is None else f"{value:{sign}.2f}"


def main(arguments: Sequence[str]) -> None:
    """Command line: the study's directory, and where to write (default: this folder)."""
    if not 1 <= len(arguments) <= 2:
        raise SystemExit(__doc__)
    folder = Path(arguments[1]) if len(arguments) == 2 else Path(__file__).resolve().parent
    folder.mkdir(parents=True, exist_ok=True)
    text = generate(Path(arguments[0]), folder)
    (folder / "results.md").write_text(text, encoding="utf-8")
    print(folder / "results.md")


if __name__ == "__main__":
    main(sys.argv[1:])
