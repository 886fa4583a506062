"""What training changed of the weights that a run started from: the same queries, before the first step and after."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from barlowctl.runs import records

ANSWERS = "knn_correct"
"""In a file of `record`: uint8 `(Q,)`, 1 for each query of the online kNN that was answered correctly."""
NORMAL = 1.96
"""Standard errors on each side of a 95 % interval."""


def file_of(run: Path, step: int) -> Path:
    """Where an evaluation at a step leaves its spectra, and which queries were answered correctly."""
    return run / "diagnostics" / f"step-{step:08d}.safetensors"


def since_start(run: Path) -> dict[str, Any]:
    """What became of the start, of a run that measured it, as values of its result; nothing of another one.

    Returns:
        knn_start, knn_gain: top-1 of the start, and how much more it is at the last evaluation, in percent and points.
        knn_gain_error: its standard error over the queries, which are the same ones; None: not known, since some could
            not be read. since_start: all of it in words. Without labels the effective rank stands in for the kNN
            in the words.
    """
    evaluations = [record for record in records.read(run / "metrics.jsonl") if record["event"] == "evaluation"]
    first = next((record for record in evaluations if record["step"] == 0), None)
    if first is None or evaluations[-1]["step"] == 0:
        return {}
    last = evaluations[-1]
    if "knn" not in first or "knn" not in last:
        return {"since_start": _without_labels(first, last)}
    gain = last["knn"] - first["knn"]
    before, after = (_answers(file_of(run, record["step"])) for record in (first, last))
    error = None if before is None or after is None else paired_error(before, after)
    values = {"knn_start": first["knn"], "knn_gain": gain, "knn_gain_error": error}
    queries = 0 if after is None else len(after)
    return {**values, "since_start": describe(first["knn"], last["knn"], error, queries)}


def describe(start: float, end: float, error: float | None, queries: int) -> str:
    """Gained or lost, in words; `error`: standard error of the difference over the `queries`."""
    gain = end - start
    levels = f"kNN {start:.2f} at the start, {end:.2f} at the end"
    if error is None:
        return f"{levels}: {gain:+z.2f} points (the queries were not the same ones, so that its error is not known)"
    spread = f"(standard error over {queries:,} queries, the same ones; of one seed)"
    if abs(gain) <= NORMAL * error:
        return f"{levels}: {gain:+z.2f} ± {error:.2f} points, which may be chance {spread}"
    return f"{levels}: {'gained' if gain > 0 else 'lost'} {abs(gain):.2f} ± {error:.2f} points {spread}"


def paired_error(before: Tensor, after: Tensor) -> float | None:
    """Standard error, in points, of the difference of two accuracies on the same queries; None: they are not the same.

    It is that of the mean of `after - before`, each -1, 0 or 1: the queries that only one of both answers correctly
    count. That is the standard error behind McNemar's test.
    """
    if len(before) != len(after) or len(before) < 2:
        return None
    difference = after.double() - before.double()
    return float(100.0 * difference.std() / math.sqrt(len(difference)))


def _answers(file: Path) -> Tensor | None:
    try:
        return load_file(file).get(ANSWERS)
    except (OSError, SafetensorError):
        return None


def _without_labels(first: Mapping[str, Any], last: Mapping[str, Any]) -> str:
    ranks = [record.get("effective_rank") for record in (first, last)]
    if None in ranks:
        return "no labelled queries: whether it gained or lost was not measured"
    return (
        f"no labelled queries, so nothing says whether it gained or lost; effective rank {ranks[0]:.1f} at the start, "
        f"{ranks[1]:.1f} at the end"
    )
