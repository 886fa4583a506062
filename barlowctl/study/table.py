"""A study's table: mean and spread over seeds, the difference to the baseline, the paper's numbers beside it."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

from barlowctl.amounts import counted
from barlowctl.study import other_code
from barlowctl.study.directory import Record, StudyDirectory
from barlowctl.study.students_t import quantile
from barlowctl.study.study import Study
from barlowctl.tables import as_csv as records_as_csv
from barlowctl.tables import latex as as_latex
from barlowctl.tables import latex_comments, markdown_notes
from barlowctl.tables import markdown as as_markdown

Row = dict[str, Any]

COLUMNS = {
    "knn": "kNN",
    "linear_top1": "linear top-1",
    "linear_top5": "linear top-5",
    "effective_rank": "effective rank",
    "feature_spread": "feature spread",
    "rankme": "RankMe",
    "lidar": "LiDAR",
    "feature_lidar": "LiDAR of features",
    "alpha": "alpha",
    "mean_diagonal": "mean C_ii",
    "rms_off_diagonal": "rms C_ij",
}
DECIMALS = {
    "top1": 1, "cpu_seconds": 0, "effective_rank": 1, "mean_diagonal": 3, "rms_off_diagonal": 3, "rankme": 1,
    "lidar": 1, "feature_lidar": 1,
}  # fmt: skip


def rows(directory: StudyDirectory, study: Study) -> list[Row]:
    """A row per variant.

    For every column that was measured: its mean, `<column>_sd` (sample standard deviation over seeds, None for one),
    `<column>_difference` to the baseline's mean, `<column>_margin`: half the 95 % interval of that difference
    (Welch), None with one seed. Then `finished` and `missing` seeds, `failed` ones with the reason, `notes` that change
    what the numbers mean, `published_top1`,
    `published_top5`, `published_difference`, `same_as`: an earlier variant that is the same recipe, and `cells`: the
    name of the folder of its cells.
    """
    measured = {variant.name: _measured(directory, study, variant.name) for variant in study.variants}
    published = {variant.name: variant.published[0] for variant in study.variants}
    table = []
    for variant in study.variants:
        cells = {seed: directory.cell(study, variant, seed) for seed in directory.seeds_of(study, variant)}
        records = {seed: cell.record for seed, cell in cells.items()}
        row: Row = {
            "variant": variant.name,
            "overrides": list(variant.overrides),
            "x": variant.x,
            "group": variant.group,
            "label": variant.label,
            "baseline": variant.baseline or study.baseline,
            "finished": [seed for seed, record in records.items() if record and "measures" in record],
            "missing": [seed for seed, record in records.items() if record is None],
            "failed": {seed: record["failed"] for seed, record in records.items() if record and "failed" in record},
            "notes": [
                *dict.fromkeys(note for record in records.values() for note in (record or {}).get("notes", ())),
                *other_code.notes(directory, cells.values()),
            ],
            "same_as": directory.same_as(study, variant),
            "cells": directory.folder_of(study, variant).name,
        }
        base = measured[row["baseline"]]
        for column in COLUMNS:
            if values := measured[variant.name].get(column):
                row |= _statistics(column, values, base.get(column, []))
        if row["baseline"] in (variant.name, row["same_as"]):
            row |= {f"{column}_margin": None for column in COLUMNS if column in row}
        row["published_top1"], row["published_top5"] = variant.published
        own, of_base = published[variant.name], published[row["baseline"]]
        row["published_difference"] = None if own is None or of_base is None else own - of_base
        if spent := [record["seconds"]["train_cpu"] for record in records.values() if _was_trained(record)]:
            row["cpu_seconds"] = statistics.fmean(spent)
        table.append(row)
    return table


def _was_trained(record: Record | None) -> TypeGuard[Record]:
    return record is not None and "train_cpu" in record.get("seconds", {})


def _measured(directory: StudyDirectory, study: Study, name: str) -> dict[str, list[float]]:
    variant = next(variant for variant in study.variants if variant.name == name)
    columns: dict[str, list[float]] = {}
    for seed in directory.seeds_of(study, variant):
        record = directory.cell(study, variant, seed).record or {}
        for column, value in record.get("measures", {}).items():
            if value is not None:  # a measurement that means nothing, e.g. of features that are all the same
                columns.setdefault(column, []).append(value)
    return columns


def _statistics(column: str, values: Sequence[float], base: Sequence[float]) -> Row:
    mean = statistics.fmean(values)
    return {
        column: mean,
        f"{column}_sd": statistics.stdev(values) if len(values) > 1 else None,
        f"{column}_difference": mean - statistics.fmean(base) if base else None,
        f"{column}_margin": margin(values, base),
    }


def margin(*samples: Sequence[float]) -> float | None:
    """Half the 95 % interval of a sum or difference of the samples' means (Welch's t, Satterthwaite's freedom).

    None where one has a single value, or none has a spread.
    """
    if min(map(len, samples)) < 2:
        return None
    parts = [statistics.variance(sample) / len(sample) for sample in samples]
    if sum(parts) == 0.0:  # a chance of the rounding: it says nothing about other seeds
        return None
    freedom = sum(parts) ** 2 / sum(part**2 / (len(sample) - 1) for part, sample in zip(parts, samples, strict=True))
    return quantile(freedom) * math.sqrt(sum(parts))


def verdict(row: Row, metric: str = "linear_top1") -> str | None:
    """Our difference to the baseline against the paper's: "same sign", "opposite sign", or "not resolved" (within the
    margin). How large the two are it does not compare, and it knows of no other rows.

    None where the paper prints none, for the baseline itself, or with one seed.
    """
    ours, published, room = (row.get(k) for k in (f"{metric}_difference", "published_difference", f"{metric}_margin"))
    if not published or ours is None or room is None:
        return None
    if abs(ours) <= room:
        return "not resolved"
    return "same sign" if (ours > 0) == (published > 0) else "opposite sign"


def number(value: float | None, column: str, *, signed: bool = False) -> str:
    """A number as tables show it."""
    if value is None:
        return "-"
    return f"{value:{'+' if signed else ''}z.{DECIMALS.get(column, 2)}f}"  # z: no -0.00


def mean_and_spread(row: Row, column: str) -> str:
    """`85.51 ± 0.30`, or without the spread for one seed."""
    if column not in row:
        return "-"
    spread = row[f"{column}_sd"]
    return number(row[column], column) + ("" if spread is None else f" ± {number(spread, column)}")


def state(row: Row) -> str:
    """Seeds finished of those wanted, and what is wrong."""
    total = len(row["finished"]) + len(row["missing"]) + len(row["failed"])
    text = f"{len(row['finished'])}/{total}"
    return text + (f", {len(row['failed'])} failed" if row["failed"] else "")


def seeds_text(table: Sequence[Row]) -> str:
    """`3 seeds`, or `3 to 8 seeds` where the rows with results differ."""
    counts = [len(row["finished"]) for row in table if row["finished"]] or [0]
    few, many = min(counts), max(counts)
    return f"{few} to {many} seeds" if few < many else f"{counted(many, 'seed')}"


ACCURACY = ("knn", "linear_top1")
EMBEDDINGS = ("linear_top5", "effective_rank", "feature_spread", "mean_diagonal", "rms_off_diagonal")
LABEL_FREE = ("rankme", "lidar", "feature_lidar", "alpha")


def formatted(table: Sequence[Row], columns: Sequence[str] = tuple(COLUMNS)) -> tuple[list[str], list[list[str]]]:
    """Header and cells for people: those of the columns that somebody measured, and the paper's beside top-1."""
    measured = [column for column in columns if any(column in row for row in table)]
    published = "linear_top1" in columns and any(row["published_difference"] for row in table)
    header = ["variant", "seeds"]
    for column in measured:
        header += [COLUMNS[column], "difference"] if column == "linear_top1" else [COLUMNS[column]]
    times = (
        "effective_rank" in columns
        and "linear_top5" in columns
        and any(row["group"] and "cpu_seconds" in row for row in table)
    )
    header += ["paper", "paper diff.", "verdict"] if published else []
    header += ["CPU seconds"] if times else []
    lines = []
    for row in table:
        line = [row["variant"] + (f" (= {row['same_as']})" if row["same_as"] else ""), state(row)]
        for column in measured:
            line.append(mean_and_spread(row, column))
            if column == "linear_top1":
                line.append(_difference(row))
        if published:
            line += [number(row["published_top1"], "top1"), number(row["published_difference"], "top1", signed=True)]
            line.append(verdict(row) or "-")
        if times:
            line.append(number(row.get("cpu_seconds"), "cpu_seconds"))
        lines.append(line)
    return header, lines


def tables(table: Sequence[Row]) -> list[tuple[list[str], list[list[str]]]]:
    """The columns as tables that fit a page: accuracies beside the paper's, embeddings, and ranks where measured."""
    first, *others = (formatted(table, columns) for columns in (ACCURACY, EMBEDDINGS, LABEL_FREE))
    return [first, *(other for other in others if len(other[0]) > 2)]  # more than variant and seeds


def _difference(row: Row) -> str:
    if row.get("linear_top1_difference") is None:
        return "-"
    room = row["linear_top1_margin"]
    value = number(row["linear_top1_difference"], "linear_top1", signed=True)
    return value if room is None else f"{value} (± {room:.2f})"


def markdown(study: Study, table: Sequence[Row]) -> str:
    """The tables as Markdown, with what is missing said below them."""
    parts = [f"{as_markdown(header, lines)}\n" for header, lines in tables(table)]
    return "\n".join([*parts, markdown_notes(notes(study, table))]).rstrip("\n") + "\n"


def latex(study: Study, table: Sequence[Row], recipe: str) -> str:
    """The tables as LaTeX, each a `tabular`; what they are of, and what is missing, as comments."""
    about = f"{study.title} ({study.source}) on recipe {recipe}, {seeds_text(table)}; needs \\usepackage{{booktabs}}"
    parts = [f"{as_latex(header, lines)}\n" for header, lines in tables(table)]
    return latex_comments([about]) + "\n".join(parts) + latex_comments(notes(study, table))


def notes(study: Study, table: Sequence[Row]) -> list[str]:
    """What has to be known to read a table, a line each: what it is of, what failed, what is missing."""
    lines = ([f"Note: {study.note}."] if study.note else []) + resolved(table)
    lines += notes_on({row["variant"]: row["notes"] for row in table})
    for row in table:
        for seed, reason in row["failed"].items():
            lines.append(f"Failed: {row['variant']}, seed {seed}: {reason}")
    missing = [f"{row['variant']} (seed{'s' * (len(row['missing']) > 1)} {', '.join(map(str, row['missing']))})"
               for row in table if row["missing"]]  # fmt: skip
    return lines + ([f"Missing: {'; '.join(missing)}."] if missing else [])


def notes_on(variants: Mapping[str, Sequence[str]]) -> list[str]:
    """A line for each note of some variants (name -> its notes), with their names."""
    lines = []
    for note in dict.fromkeys(note for of_one in variants.values() for note in of_one):
        having = [name for name, of_one in variants.items() if note in of_one]
        lines.append(f"Note on {'all variants' if len(having) == len(variants) else ', '.join(having)}: {note}.")
    return lines


def resolved(table: Sequence[Row]) -> list[str]:
    """Of a table without the paper's numbers, whose verdicts say it: which differences are more than chance."""
    others = [row for row in table if row["baseline"] not in (row["variant"], row["same_as"])]
    others = [row for row in others if row.get("linear_top1_difference") is not None]
    if not others or any(row["published_difference"] for row in table):
        return []
    what = f"Differences are of linear top-1 to {' and '.join(dict.fromkeys(row['baseline'] for row in others))}"
    with_room = [row for row in others if row["linear_top1_margin"] is not None]
    if not with_room:
        return [f"{what}; of one seed each they may be chance: --seeds 3 adds their 95 % intervals."]
    beyond = [row["variant"] for row in with_room if abs(row["linear_top1_difference"]) > row["linear_top1_margin"]]
    lines = [
        f"{what}, with half their 95 % interval (Welch), each by itself. "
        f"Larger than that: {', '.join(beyond) or 'none'}, of {len(with_room)}."
    ]
    return lines if beyond or len(with_room) < len(others) else [*lines, "More seeds make the intervals narrower."]


def as_csv(table: Sequence[Row]) -> str:
    """Every number of the rows, unrounded."""
    columns = [*dict.fromkeys(key for row in table for key in row), "verdict"]
    records = []
    for row in table:
        flat = {key: " ".join(map(str, value)) if isinstance(value, list) else value for key, value in row.items()}
        flat["failed"] = "; ".join(f"{seed}: {reason}" for seed, reason in row["failed"].items())
        records.append(flat | {"verdict": verdict(row)})
    return records_as_csv(columns, records)


def document(directory: StudyDirectory, study: Study, table: Sequence[Row]) -> dict[str, Any]:
    """The study as JSON: what it is, how it was made, and its rows."""
    return {
        "study": study.name,
        "title": study.title,
        "source": study.source,
        "recipe_name": directory.base.name,
        "seeds": list(directory.seeds),
        "selection": list(directory.selection),
        "baseline": study.baseline,
        "note": study.note,
        "published_series": {series.label: dict(series.points) for series in study.series},
        "protocol": "frozen features of the test images: kNN (k 20, cosine) and the fast linear classifier "
        "(docs/evaluation.md); sd over seeds; margins are half the 95 % interval of the difference (Welch)",
        "rows": [{**row, "verdict": verdict(row)} for row in table],
    }
