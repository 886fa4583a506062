"""Trials of a detector: their mean and spread, their scores by class, and the paper's beside them."""

from __future__ import annotations

import csv
import io
import json
import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from barlowctl import tables
from barlowctl.errors import one_line
from barlowctl.eval.published import DETECTION


def read_back(file: Path, keys: Sequence[str]) -> tuple[dict[str, Any] | None, str]:
    """What a trial that was finished noted in a JSON file; None where there is none, or it is damaged, with why.

    Args:
        keys: what it has where it is whole.
    """
    if not file.is_file():
        return None, ""
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
        missing = [key for key in keys if not isinstance(values, dict) or key not in values]
    except ValueError as error:
        return None, one_line(error)
    return (None, f"{file.name} has no {', '.join(missing)}") if missing else (values, "")


def published(task: str) -> dict[str, dict[str, float]]:
    """Method -> AP, AP50, AP75 of boxes and, for COCO, of masks, as the paper has them."""
    columns = [column for column in DETECTION.columns if column.startswith(f"{task} ")]
    return {
        row.method: {column.removeprefix(f"{task} "): dict(DETECTION.column(column))[row.method] for column in columns}
        for row in DETECTION.rows
    }


def over_trials(trials: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Means over trials of AP, AP50 and AP75, and with several trials their sample standard deviations.

    `value` and `sd` are those of AP, `None` where it is not defined.
    """
    names = [name for name in ("AP", "AP50", "AP75", "mask AP", "mask AP50", "mask AP75") if name in trials[0]]
    columns = {name: [trial[name] for trial in trials] for name in names}
    means = {name: None if None in values else statistics.fmean(values) for name, values in columns.items()}
    result: dict[str, Any] = {"value": means["AP"], "scores": means}
    if len(trials) > 1:
        spread = {name: None if None in values else statistics.stdev(values) for name, values in columns.items()}
        result |= {"scores_sd": spread} | ({"sd": spread["AP"]} if spread["AP"] is not None else {})
    return result


def by_class(per_class: Mapping[str, Mapping[str, float | None]]) -> str:
    """A CSV table: a row for each class; what is not defined is empty."""
    names = list(next(iter(per_class.values()), {}))
    table = io.StringIO()
    rows = csv.writer(table, lineterminator="\n")
    rows.writerow(["class", *names])
    rows.writerows([name, *("" if row[key] is None else row[key] for key in names)] for name, row in per_class.items())
    return table.getvalue()


def by_class_in_latex(per_class: Mapping[str, Mapping[str, float | None]]) -> str:
    """The same as a `tabular`, with two decimals."""
    names = list(next(iter(per_class.values()), {}))
    rows = [
        [name, *(tables.MISSING if (value := row[key]) is None else f"{value:.2f}" for key in names)]
        for name, row in per_class.items()
    ]
    note = tables.latex_comments(["needs \\usepackage{booktabs}", "percent"])
    return f"{note}{tables.latex(['class', *names], rows)}\n"


def rounded(values: Mapping[str, float]) -> dict[str, float | None]:
    """Percent as a result has it; None where it is not defined."""
    return {name: None if math.isnan(value) else round(value, 4) for name, value in values.items()}
